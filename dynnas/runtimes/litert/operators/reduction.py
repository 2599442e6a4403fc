"""Operators along axes: sums, means, largest values, softmax, norms, and where the largest values are.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import TensorType

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import INT, Graph, Input, Value, constant, lacking
from dynnas.runtimes.litert.layout import Order
from dynnas.runtimes.litert.operators.elementwise import binary, number, unary
from dynnas.runtimes.litert.operators.node import Node, Writer


def reduced(graph: Graph, code: str, x: Value, axes: Sequence[int], keep: bool) -> Value:
    """Return a value with some axes reduced to one number each, which are kept with size 1 or left out."""
    gone = sorted(axis % x.rank for axis in axes)
    places = np.array(sorted(x.axis(axis) for axis in gone), np.int32)
    options = Options("ReducerOptions", keepDims=keep)
    left = [axis for axis in range(x.rank) if axis not in gone]
    if keep:
        shape = [1 if axis in gone else size for axis, size in enumerate(x.shape)]
        return graph.emit(code, [x, places], shape, x.dtype, x.order, options)
    order: Order = tuple(left.index(axis) for axis in x.order if axis in left)
    return graph.emit(code, [x, places], [x.shape[axis] for axis in left], x.dtype, order, options)


def _reduce(code: str) -> Writer:
    def write(graph: Graph, node: Node) -> Value:
        return _reduced_by(graph, code, node, node[0])

    return write


def _reduced_by(graph: Graph, code: str, node: Node, x: Value) -> Value:
    axes = node.ints("axes", 1)
    if axes is None or not axes:
        if node.get("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.rank))
    return reduced(graph, code, x, axes, bool(node.get("keepdims", 1)))


def _length(graph: Graph, node: Node) -> Value:
    return unary(graph, "SQRT", _sum_of_squares(graph, node))


def _sum_of_squares(graph: Graph, node: Node) -> Value:
    return _reduced_by(graph, "SUM", node, binary(graph, "MUL", node[0], node[0]))


def _sum_of_sizes(graph: Graph, node: Node) -> Value:
    return _reduced_by(graph, "SUM", node, unary(graph, "ABS", node[0]))


def _log_of_sum(graph: Graph, node: Node) -> Value:
    x = node[0]
    axes = node.ints("axes", 1) or [*range(x.rank)]
    largest = reduced(graph, "REDUCE_MAX", x, axes, True)
    shares = unary(graph, "EXP", binary(graph, "SUB", x, largest))
    made = unary(graph, "LOG", reduced(graph, "SUM", shares, axes, True))
    made = binary(graph, "ADD", made, largest)
    if node.get("keepdims", 1):
        return made
    gone = {axis % x.rank for axis in axes}
    return graph.reshaped(made, [size for axis, size in enumerate(x.shape) if axis not in gone])


def _global(code: str) -> Writer:
    return lambda graph, node: reduced(graph, code, node[0], range(2, node[0].rank), True)


def _axis_last(graph: Graph, x: Value, axis: int) -> Value:
    """Return a value whose axis lies last."""
    axis %= x.rank
    if x.order[-1] == axis:
        return x
    if axis == x.rank - 1:
        return graph.plain(x)
    return graph.arranged(x, (*(each for each in x.order if each != axis), axis))


def _softmax(code: str) -> Writer:
    def write(graph: Graph, node: Node) -> Value:
        x = _axis_last(graph, node[0], node.get("axis", -1))
        options = Options("SoftmaxOptions", beta=1.0) if code == "SOFTMAX" else None
        return graph.emit(code, [x], x.shape, order=x.order, options=options)

    return write


def _arg(code: str) -> Writer:
    def write(graph: Graph, node: Node) -> Value:
        if node.get("select_last_index", 0):
            raise lacking(f"{node.kind} that takes the last of equal values")
        x, axis, keep = node[0], node.get("axis", 0) % node[0].rank, bool(node.get("keepdims", 1))
        options = Options({"ARG_MAX": "ArgMaxOptions", "ARG_MIN": "ArgMinOptions"}[code])
        options.table.outputType = TensorType.INT32
        left = [each for each in range(x.rank) if each != axis]
        order: Order = tuple(left.index(each) for each in x.order if each != axis)
        shape = [x.shape[each] for each in left]
        made = graph.emit(code, [x, np.array(x.axis(axis), np.int32)], shape, INT, order, options)
        return graph.reshaped(made, [*shape[:axis], 1, *shape[axis:]]) if keep else made

    return write


def _top(graph: Graph, node: Node) -> list[Value]:
    axis = node.get("axis", -1) % node[0].rank
    (count,) = node.ints("k", 1) or [1]
    x = node[0] if node.get("largest", 1) else unary(graph, "NEG", node[0])
    x = _axis_last(graph, x, axis)
    shape = [count if each == axis else size for each, size in enumerate(x.shape)]
    options = Options("TopKV2Options")
    inputs: list[Input] = [x, np.array(count, np.int32)]
    values, places = graph.emit_all("TOPK_V2", inputs, [shape, shape], [x.dtype, INT], x.order, options)
    return [values if node.get("largest", 1) else unary(graph, "NEG", values), places]


def _running_sum(graph: Graph, node: Node) -> Value:
    (axis,) = node.ints("axis", 1) or [0]
    place = np.array(node[0].axis(axis), np.int32)
    options = Options(
        "CumsumOptions", exclusive=bool(node.get("exclusive", 0)), reverse=bool(node.get("reverse", 0))
    )
    return graph.emit("CUMSUM", [node[0], place], node[0].shape, node[0].dtype, node[0].order, options)


def _normed(graph: Graph, x: Value, axes: Sequence[int], epsilon: float) -> Value:
    """Return a value with mean 0 and variance 1 along axes."""
    centred = binary(graph, "SUB", x, reduced(graph, "MEAN", x, axes, True))
    variance = reduced(graph, "MEAN", binary(graph, "MUL", centred, centred), axes, True)
    scale = unary(graph, "RSQRT", binary(graph, "ADD", variance, number(epsilon)))
    return binary(graph, "MUL", centred, scale)


def _per_channel(graph: Graph, made: Value, scale: Value | None, shift: Value | None) -> Value:
    """Return a value (N, C, ...) with each channel scaled and shifted."""
    for given, code in ((scale, "MUL"), (shift, "ADD")):
        if given is not None:
            channels = graph.reshaped(given, (1, given.shape[0], *[1] * (made.rank - 2)))
            made = binary(graph, code, made, channels)
    return made


def _layer_norm(graph: Graph, node: Node) -> Value:
    if node.outputs > 1:
        raise lacking("LayerNormalization that gives its means")
    x = node[0]
    axes = range(node.get("axis", -1) % x.rank, x.rank)
    made = _normed(graph, x, axes, float(node.get("epsilon", 1e-5)))
    made = binary(graph, "MUL", made, node[1])
    shift = node.optional(2)
    return made if shift is None else binary(graph, "ADD", made, shift)


def _instance_norm(graph: Graph, node: Node) -> Value:
    x = node[0]
    made = _normed(graph, x, range(2, x.rank), float(node.get("epsilon", 1e-5)))
    return _per_channel(graph, made, node[1], node[2])


def _batch_norm(graph: Graph, node: Node) -> Value:
    scale, shift, mean, variance = (value.data for value in node.given[1:5])
    if scale is None or shift is None or mean is None or variance is None:
        raise lacking("BatchNormalization by values that depend on the image")
    factor = scale / np.sqrt(variance + node.get("epsilon", 1e-5))
    return _per_channel(graph, node[0], constant(factor), constant(shift - mean * factor))


WRITERS: Mapping[str, Writer] = {
    "ReduceMean": _reduce("MEAN"),
    "ReduceSum": _reduce("SUM"),
    "ReduceMax": _reduce("REDUCE_MAX"),
    "ReduceMin": _reduce("REDUCE_MIN"),
    "ReduceProd": _reduce("REDUCE_PROD"),
    "ReduceL1": _sum_of_sizes,
    "ReduceL2": _length,
    "ReduceLogSumExp": _log_of_sum,
    "ReduceSumSquare": _sum_of_squares,
    "GlobalAveragePool": _global("MEAN"),
    "GlobalMaxPool": _global("REDUCE_MAX"),
    "Softmax": _softmax("SOFTMAX"),
    "LogSoftmax": _softmax("LOG_SOFTMAX"),
    "ArgMax": _arg("ARG_MAX"),
    "ArgMin": _arg("ARG_MIN"),
    "TopK": _top,
    "CumSum": _running_sum,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "BatchNormalization": _batch_norm,
}
"""Operators along axes, by their names in ONNX."""
