"""ONNX: the graph that was timed, and one for batches."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dynnas.export.formats.format import ANY_BATCH, ONE_IMAGE, Artifact, Format, Outputs, Predict
from dynnas.ops import Network
from dynnas.runtime import to_onnx, to_onnx_batch
from dynnas.runtime.onnx_graph import OPSET
from dynnas.runtime.onnx_runtime import OnnxRunner


def _write(network: Network, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(to_onnx(network).SerializeToString())
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
        Artifact("model.onnx", 1, ONE_IMAGE, _python("model.onnx")),
        Artifact("model_batch.onnx", None, ANY_BATCH, _python("model_batch.onnx")),
    ),
    details={"opset": OPSET},
)
