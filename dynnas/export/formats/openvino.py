"""OpenVINO's own form, which runs without ONNX."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Artifact, Format, Outputs, Predict
from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch
from dynnas.runtimes.openvino.session import OpenVinoSession, write_ir


def _write(network: Finished, folder: Path) -> None:
    write_ir(to_onnx(network).SerializeToString(), folder / "model.xml")
    write_ir(to_onnx_batch(network).SerializeToString(), folder / "model_batch.xml")


def _load(path: Path) -> Predict:
    session = OpenVinoSession(path, threads=1)

    def predict(images: np.ndarray) -> Outputs:
        outputs = session.outputs(images)
        return outputs["logits"], outputs.get("exit")

    return predict


def _python(file: str) -> str:
    return f'openvino.compile_model("{file}", "CPU")({{"image": image}})'


OPENVINO = Format(
    write=_write,
    load=_load,
    artifacts=(
        Artifact("model.xml", 1, ONE_IMAGE, _python("model.xml")),
        Artifact("model_batch.xml", None, ANY_BATCH, _python("model_batch.xml")),
    ),
    branches_at_gates=True,
    example=(
        "import openvino",
        'model = openvino.compile_model("model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})',
        'logits = model({"image": image})["logits"]',
    ),
)
