"""OpenVINO's own format, which runs without ONNX."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Format, ModelFile, predict_by, register_format

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict
    from dynnas.runtimes.cascade import Finished


def _python(file: str) -> str:
    return f'openvino.compile_model("{file}", "CPU")({{"image": image}})'


@register_format
class OpenVinoModel(Format):
    """The portable ONNX graphs, converted."""

    name = "openvino"
    models: ClassVar = (
        ModelFile("model.xml", 1, ONE_IMAGE, _python("model.xml")),
        ModelFile("model_batch.xml", None, ANY_BATCH, _python("model_batch.xml")),
    )
    example: ClassVar = (
        "import openvino",
        'model = openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        'logits = model({"image": image})["logits"]',
    )
    branches_at_gates = True

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the files, with `metadata` as the runtime information `model_info`."""
        from dynnas.runtimes.openvino.session import write_ir
        from dynnas.runtimes.runtime import get_runtime
        from dynnas.settings.settings import TargetSettings

        runtime = get_runtime("openvino")
        for file, batch in (("model.xml", 1), ("model_batch.xml", 2)):
            write_ir(runtime.compile(network, TargetSettings(batch=batch)).data, folder / file, metadata)

    def load(self, path: Path) -> Predict:
        """Load a compiled model of one thread."""
        from dynnas.runtimes.openvino.session import OpenVinoSession

        session = OpenVinoSession(path, threads=1)
        return predict_by(session.outputs)
