"""ONNX: a graph for one image on any machine, the one that was timed, and one for batches."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Format, ModelFile, register_format

if TYPE_CHECKING:
    import numpy as np

    from dynnas.export.formats.format import Outputs, Predict
    from dynnas.runtimes.cascade import Finished

OPSET = 18


def _python(file: str) -> str:
    return f'onnxruntime.InferenceSession("{file}").run(None, {{"image": image}})'


@register_format
class Onnx(Format):
    """The artifacts of ONNX Runtime, with their metadata added at the end."""

    name = "onnx"
    models: ClassVar = (
        ModelFile("model.onnx", 1, f"{ONE_IMAGE}; on any machine", _python("model.onnx")),
        ModelFile(
            "model.packed",
            1,
            f"{ONE_IMAGE}; the form whose latency is measured, for processors with the vector registers of "
            "the one that exported it: run.py opens it where its answers are right, other programs cannot",
            "run.Model()(image)",
        ),
        ModelFile("model_batch.onnx", None, ANY_BATCH, _python("model_batch.onnx")),
    )
    example: ClassVar = (
        "from run import Model",
        "model = Model()",
        'print(model(model.read("picture.png")))  # class, confidence, exit',
    )
    branches_at_gates = True
    script = True
    details: ClassVar = {"opset": OPSET}

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the artifacts of the runtimes, as they are timed."""
        from dynnas.export.standalone import SEAL
        from dynnas.runtimes.onnx.metadata import metadata_bytes
        from dynnas.runtimes.runtime import get_runtime
        from dynnas.settings.settings import TargetSettings

        one, many = TargetSettings(), TargetSettings(batch=2)  # for batches there is one graph for all sizes
        said = metadata_bytes(metadata)
        packed, portable = get_runtime("onnxruntime"), get_runtime("onnxruntime_portable")
        (folder / "model.onnx").write_bytes(portable.compile(network, one).data + said)
        (folder / "model.packed").write_bytes(SEAL + packed.compile(network, one).data + said)
        (folder / "model_batch.onnx").write_bytes(portable.compile(network, many).data + said)

    def load(self, path: Path) -> Predict:
        """Load a session of one thread."""
        from dynnas.export.standalone import SEAL
        from dynnas.runtimes.onnx.session import OnnxRunner

        runner = OnnxRunner(path.read_bytes().removeprefix(SEAL), threads=1)

        def predict(images: np.ndarray) -> Outputs:
            outputs = runner.outputs(images)
            return outputs["logits"], outputs.get("exit")

        return predict
