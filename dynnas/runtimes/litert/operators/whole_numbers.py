"""Operators in int8, of graphs that ONNX Runtime quantised: what lies between two scales is computed in int8.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np
from onnx import NodeProto

from dynnas.runtimes.litert.flatbuffer import INT8, Options, Scale
from dynnas.runtimes.litert.graph import FLOAT, Graph, Input, Value, constant, lacking
from dynnas.runtimes.litert.operators.convolution import convolved
from dynnas.runtimes.litert.operators.node import Node, Writer

SCALING = ("QuantizeLinear", "DequantizeLinear")


def scales_behind(nodes: Sequence[NodeProto], outputs: Collection[str]) -> dict[str, Sequence[str]]:
    """Return the names of scale and zero of values that go on in whole numbers alone, by their names."""
    read = Counter(name for node in nodes for name in node.input)
    return {
        node.input[0]: node.input[1:]
        for node in nodes
        if node.op_type == "QuantizeLinear" and read[node.input[0]] == 1 and node.input[0] not in outputs
    }


def _scale(scales: Value, zero: Value | None, axis: int = 0) -> Scale:
    """Return a scale for int8; zeros of uint8 are moved by 128."""
    if scales.data is None or (zero is not None and zero.data is None):
        raise lacking("scales of whole numbers that depend on the image")
    zeros = np.zeros(1, np.int8) if zero is None or zero.data is None else zero.data.reshape(-1)
    if len({*zeros.tolist()}) > 1:
        raise lacking("whole numbers with several zeros")
    moved = int(zeros[0]) - (128 if zeros.dtype == np.uint8 else 0)
    return Scale(tuple(map(float, scales.data.reshape(-1))), moved, axis)


def _quantize(graph: Graph, node: Node) -> Value:
    x, scale = node[0], _scale(node[1], node.optional(2))
    if x.whole is not None and x.whole.scale == scale:
        return x.whole
    return graph.emit("QUANTIZE", [x], x.shape, INT8, x.order, Options("QuantizeOptions"), scale)


def _dequantize(graph: Graph, node: Node) -> Value:
    x = node[0]
    if x.data is None:
        return _read(graph, x)
    axis = node.get("axis", 1) % max(1, x.rank)
    scale = _scale(node[1], node.optional(2), axis if node[1].rank else 0)
    data = x.data.astype(np.int16) - 128 if x.data.dtype == np.uint8 else x.data
    across = [-1 if each == axis and len(scale.scales) > 1 else 1 for each in range(x.rank)]
    factors = np.array(scale.scales, np.float32).reshape(across)
    values = (data.astype(np.float32) - scale.zero) * factors
    whole = data.astype(INT8) if data.dtype == np.int16 else data
    return replace(constant(values.astype(np.float32)), whole=replace(constant(whole), scale=scale))


def _read(graph: Graph, whole: Value) -> Value:
    """Return the numbers that whole ones stand for."""
    made = graph.emit("DEQUANTIZE", [whole], whole.shape, FLOAT, whole.order, Options("DequantizeOptions"))
    return replace(made, whole=whole)


def in_whole_numbers(graph: Graph, node: Node, scales: Value, zero: Value | None = None) -> Value | None:
    """Return the output of a node computed in int8, as the numbers that it stands for.

    Args:
        graph: to write it to. node: whose output goes on in whole numbers.
        scales, zero: of these.

    Returns:
        None if LiteRT computes the node in float32.
    """
    write = _COMPUTED.get(node.kind)
    whole = [None if value is None else value.whole for value in node.inputs]
    if write is None or any(each is None for each in whole):
        return None
    scale = _scale(scales, zero)
    made = write(graph, replace(node, inputs=whole), scale)
    return None if made is None else _read(graph, made)


def _conv(graph: Graph, node: Node, scale: Scale) -> Value | None:
    x, weight = node[0], node[1]
    if x.data is not None or weight.data is None or len(node.given) < 3 or x.rank != 4:
        return None
    return convolved(graph, node, scale)


def _gemm(graph: Graph, node: Node, scale: Scale) -> Value | None:
    x, weight = node[0], node[1]
    plain = (
        node.get("alpha", 1.0) == 1 == node.get("beta", 1.0)
        and node.get("transB", 0)
        and len(node.given) == 3
    )
    if x.data is not None or weight.data is None or not plain or node.get("transA", 0):
        return None
    inputs: list[Input] = [graph.plain(x), weight, node[2]]
    options = Options("FullyConnectedOptions", keepNumDims=True)
    shape = (x.shape[0], weight.shape[0])
    return graph.emit("FULLY_CONNECTED", inputs, shape, INT8, options=options, scale=scale)


def _add(graph: Graph, node: Node, scale: Scale) -> Value | None:
    x, y = node[0], node[1]
    if x.shape != y.shape or x.data is not None or y.data is not None:
        return None
    inputs: list[Input] = [x, graph.arranged(y, x.order)]
    return graph.emit("ADD", inputs, x.shape, INT8, x.order, Options("AddOptions"), scale)


_COMPUTED: Mapping[str, Callable[[Graph, Node, Scale], Value | None]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "Add": _add,
}

WRITERS: Mapping[str, Writer] = {"QuantizeLinear": _quantize, "DequantizeLinear": _dequantize}
"""Operators between whole and other numbers, by their names in ONNX."""
