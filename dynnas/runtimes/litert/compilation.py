"""Networks as models of LiteRT."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dynnas.errors import TargetError, require
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.plain import Compilable

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import Tensor


def compile_litert(
    network: Compilable, metadata: Mapping[str, str] | None = None, int8_images: Tensor | None = None
) -> bytes:
    """Return the folded network for one image as a .tflite file, with `metadata` in it.

    Args:
        network: calibrated.
        metadata: texts by their names.
        int8_images: training images (N, channels, H, W), prepared for it, to quantise it to int8 by.

    Raises:
        MissingExtraError: ai_edge_litert or onnx is not installed, or for int8 onnxruntime.
        TargetError: the network has operators that LiteRT has not; names one. Or it is a cascade, in int8.
    """
    require("ai_edge_litert", "litert")
    require("flatbuffers", "litert")
    graph = to_onnx(network) if int8_images is None else _in_int8(network, int8_images)

    from dynnas.runtimes.litert.conversion import to_litert

    return to_litert(graph, metadata)


def _in_int8(network: Compilable, images: Tensor) -> ModelProto:
    from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx

    if isinstance(network, Cascade):
        raise TargetError("target: cascades are not quantised; quantise their networks")
    return to_int8_onnx(network, images)
