"""ONNX: a graph for one image on any machine, the one that was timed, and one for batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Artifact, Format, Outputs, Predict
from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.onnx.trace import OPSET

_PACKED = (
    f"{ONE_IMAGE}; the form whose latency is measured, only for ONNX Runtime on processors with the vector "
    "registers of the one that exported it (on others its answers are wrong)"
)


def _write(network: Finished, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(to_onnx(network).SerializeToString())
    (folder / "model_packed.onnx").write_bytes(to_packed_onnx(network).SerializeToString())
    (folder / "model_batch.onnx").write_bytes(to_onnx_batch(network).SerializeToString())


def _load(path: Path) -> Predict:
    runner = OnnxRunner(path.read_bytes(), threads=1)

    def predict(images: np.ndarray) -> Outputs:
        outputs = runner.outputs(images)
        return outputs["logits"], outputs.get("exit")

    return predict


def _python(file: str) -> str:
    return f'onnxruntime.InferenceSession("{file}").run(None, {{"image": image}})'


ONNX = Format(
    write=_write,
    load=_load,
    artifacts=(
        Artifact("model.onnx", 1, f"{ONE_IMAGE}; on any machine", _python("model.onnx")),
        Artifact("model_packed.onnx", 1, _PACKED, _python("model_packed.onnx")),
        Artifact("model_batch.onnx", None, ANY_BATCH, _python("model_batch.onnx")),
    ),
    branches_at_gates=True,
    example=(
        "from run import Model",
        "model = Model()",
        'print(model(model.read("picture.png")))  # class, confidence, exit',
    ),
    script=True,
    details={"opset": OPSET},
)
