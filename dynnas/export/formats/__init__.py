"""The formats in which a network ships, one per file."""

from collections.abc import Mapping

from dynnas.export.formats.checkpoint import CHECKPOINT
from dynnas.export.formats.executorch import EXECUTORCH
from dynnas.export.formats.format import Artifact, Format, Outputs, Predict
from dynnas.export.formats.onnx import ONNX
from dynnas.export.formats.openvino import OPENVINO
from dynnas.export.formats.pt2 import PT2
from dynnas.export.formats.safetensors import SAFETENSORS

FORMATS: Mapping[str, Format] = {
    "onnx": ONNX,
    "pt2": PT2,
    "openvino": OPENVINO,
    "executorch": EXECUTORCH,
    "safetensors": SAFETENSORS,
    "checkpoint": CHECKPOINT,
}

__all__ = ["FORMATS", "Artifact", "Format", "Outputs", "Predict"]
