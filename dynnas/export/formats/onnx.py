"""ONNX: a graph for one image on any machine, the one that was timed, and one for batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import require
from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Format, ModelFile, predict_by, register_format

if TYPE_CHECKING:
    from torch import Tensor

    from dynnas.export.formats.format import Predict
    from dynnas.runtimes.cascade import Finished

OPSET = 18


def _python(file: str) -> str:
    return f'onnxruntime.InferenceSession("{file}").run(None, {{"image": image}})'


@register_format
class Onnx(Format):
    """The artifacts of ONNX Runtime, with their metadata added at the end."""

    name = "onnx"
    models: ClassVar[tuple[ModelFile, ...]] = (
        ModelFile("model.onnx", 1, f"{ONE_IMAGE}; on any machine", _python("model.onnx")),
        ModelFile(
            "model_packed.onnx",
            1,
            f"{ONE_IMAGE}; the form whose latency is measured, for processors with the vector registers of "
            "the one that exported it: on others it fails, and model.onnx is the one to run",
            _python("model_packed.onnx"),
        ),
        ModelFile("model_batch.onnx", None, ANY_BATCH, _python("model_batch.onnx")),
    )
    example: ClassVar[tuple[str, ...]] = (
        "from run import Model",
        "model = Model()",
        'print(model(model.read("picture.png")))  # class, confidence, exit',
    )
    branches_at_gates = True
    script = True
    details: ClassVar = {"opset": OPSET}

    def in_int8(self, images: Tensor) -> Format:
        """Return the format of one file, the graph for one image in int8."""
        return _Int8Onnx(images)

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the artifacts of the runtimes, as they are timed."""
        from dynnas.runtimes.onnx.metadata import metadata_bytes
        from dynnas.runtimes.runtime import get_runtime
        from dynnas.settings.settings import TargetSettings

        checker = require("onnx.checker", "onnx")
        one, many = TargetSettings(), TargetSettings(batch=2)  # for batches there is one graph for all sizes
        packed, portable = get_runtime("onnxruntime"), get_runtime("onnxruntime_portable")
        for file, runtime, target in (
            ("model.onnx", portable, one),
            ("model_packed.onnx", packed, one),
            ("model_batch.onnx", portable, many),
        ):
            content = runtime.compile(network, target).data + metadata_bytes(metadata)
            checker.check_model(content, full_check=True)
            (folder / file).write_bytes(content)

    def load(self, path: Path) -> Predict:
        """Load a session of one thread."""
        from dynnas.runtimes.onnx.session import OnnxRunner

        runner = OnnxRunner(path.read_bytes(), threads=1)
        return predict_by(runner.outputs)


class _Int8Onnx(Onnx):
    """The artifact of ONNX Runtime in int8, for one image; it is `onnx` for networks that were quantised."""

    models: ClassVar[tuple[ModelFile, ...]] = (
        ModelFile(
            "model.onnx",
            1,
            f"{ONE_IMAGE}; weights and activations in int8, as its latency is measured; on any machine",
            _python("model.onnx"),
        ),
    )
    exact = False
    details: ClassVar = {"opset": OPSET, "quantize": "int8"}

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the artifact in int8."""
        from dynnas.runtimes.compile import compile_network
        from dynnas.runtimes.onnx.metadata import metadata_bytes
        from dynnas.settings.settings import TargetSettings

        checker = require("onnx.checker", "onnx")
        target = TargetSettings(runtime="onnxruntime_portable")
        artifact = compile_network(network, target, int8_images=self._images)
        content = artifact.data + metadata_bytes(metadata)
        checker.check_model(content, full_check=True)
        (folder / "model.onnx").write_bytes(content)
