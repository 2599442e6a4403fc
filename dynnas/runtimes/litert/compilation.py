"""Networks as models of LiteRT."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.errors import require
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.plain import Compilable


def compile_litert(network: Compilable, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the folded network for one image as a .tflite file, with `metadata` in it.

    Raises:
        MissingExtraError: ai_edge_litert or onnx is not installed.
        TargetError: the network has operators that LiteRT has not; names one.
    """
    require("ai_edge_litert", "litert")
    require("flatbuffers", "litert")
    graph = to_onnx(network)

    from dynnas.runtimes.litert.conversion import to_litert

    return to_litert(graph, metadata)
