"""Operators that move values, and do not change them.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import Graph, Input, Value, constant, lacking
from dynnas.runtimes.litert.layout import laid
from dynnas.runtimes.litert.operators.node import Node, Writer


def _reshape(graph: Graph, node: Node) -> Value:
    x, wanted = node[0], node.ints("shape", 1) or []
    if not node.get("allowzero", 0):
        wanted = [x.shape[axis] if size == 0 else size for axis, size in enumerate(wanted)]
    held = int(np.prod(x.shape))
    rest = held // max(1, int(np.prod([size for size in wanted if size >= 0])))
    return graph.reshaped(x, [rest if size < 0 else size for size in wanted])


def _flatten(graph: Graph, node: Node) -> Value:
    x, axis = node[0], node.get("axis", 1)
    axis = axis + node[0].rank if axis < 0 else axis
    return graph.reshaped(x, (int(np.prod(x.shape[:axis])), int(np.prod(x.shape[axis:]))))


def _transpose(graph: Graph, node: Node) -> Value:
    return graph.transposed(node[0], node.get("perm", [*range(node[0].rank)][::-1]))


def _squeeze(graph: Graph, node: Node) -> Value:
    x, axes = node[0], node.ints("axes", 1)
    gone = [axis for axis, size in enumerate(x.shape) if size == 1] if axes is None else axes
    gone = [axis % x.rank for axis in gone]
    return graph.reshaped(x, [size for axis, size in enumerate(x.shape) if axis not in gone])


def _unsqueeze(graph: Graph, node: Node) -> Value:
    axes = node.ints("axes", 1) or []
    rank = node[0].rank + len(axes)
    added, sizes = {axis % rank for axis in axes}, iter(node[0].shape)
    return graph.reshaped(node[0], [1 if axis in added else next(sizes) for axis in range(rank)])


def joined(graph: Graph, values: Sequence[Value], axis: int) -> Value:
    """Return values one after the other along an axis, in the order of the largest that is no constant."""
    values = [value for value in values if value.shape[axis]]
    if len(values) == 1:
        return values[0]
    axis %= values[0].rank
    order = max((v for v in values if v.data is None), key=lambda v: np.prod(v.shape)).order
    values = [graph.arranged(value, order) for value in values]
    shape = [*values[0].shape]
    shape[axis] = sum(value.shape[axis] for value in values)
    options = Options("ConcatenationOptions", axis=order.index(axis))
    return graph.emit("CONCATENATION", values, shape, values[0].dtype, order, options)


def sliced(graph: Graph, x: Value, begins: Sequence[int], sizes: Sequence[int]) -> Value:
    """Return the part of a value that begins somewhere along each axis, and has these sizes."""
    if tuple(sizes) == x.shape:
        return x
    inputs: list[Input] = [x, *(np.array(laid(each, x.order), np.int32) for each in (begins, sizes))]
    return graph.emit("SLICE", inputs, sizes, x.dtype, x.order, Options("SliceOptions"))


def _split(graph: Graph, node: Node) -> list[Value]:
    x, axis, sizes = node[0], node.get("axis", 0) % node[0].rank, node.ints("split", 1)
    if sizes is None:
        each = -(-x.shape[axis] // node.outputs)
        sizes = [min(each, x.shape[axis] - each * number) for number in range(node.outputs)]
    made, begin = [], 0
    for size in sizes:
        begins, wanted = [0] * x.rank, [*x.shape]
        begins[axis], wanted[axis] = begin, size
        made.append(sliced(graph, x, begins, wanted))
        begin += size
    return made


def _slice(graph: Graph, node: Node) -> Value:
    x = node[0]
    starts, ends = node.ints("starts", 1) or [], node.ints("ends", 2) or []
    axes = node.ints("axes", 3) or [*range(len(starts))]
    steps = node.ints("steps", 4) or [1] * len(starts)
    chosen = [range(size) for size in x.shape]
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        chosen[axis % x.rank] = range(x.shape[axis % x.rank])[start:end:step]
    if not all(chosen):
        raise lacking("Slice that leaves nothing")
    shape = [len(each) for each in chosen]
    if all(each.step == 1 for each in chosen):
        return sliced(graph, x, [each.start for each in chosen], shape)
    backwards = sum(1 << place for place, axis in enumerate(x.order) if chosen[axis].stop < 0)
    fields = [[getattr(chosen[axis], name) for axis in x.order] for name in ("start", "stop", "step")]
    options = Options("StridedSliceOptions", endMask=backwards)
    inputs: list[Input] = [x, *(np.array(each, np.int32) for each in fields)]
    return graph.emit("STRIDED_SLICE", inputs, shape, x.dtype, x.order, options)


def _tile(graph: Graph, node: Node) -> Value:
    x, times = node[0], node.ints("repeats", 1) or []
    shape = [size * count for size, count in zip(x.shape, times, strict=True)]
    inputs: list[Input] = [x, np.array(laid(times, x.order), np.int32)]
    return graph.emit("TILE", inputs, shape, x.dtype, x.order, Options("TileOptions"))


def _depth_to_space(graph: Graph, node: Node) -> Value:
    x, size = node[0], node.get("blocksize", 1)
    images, channels, high, wide = x.shape
    left = channels // size**2
    if node.get("mode", "DCR") == "DCR":
        parts = graph.reshaped(x, (images, size, size, left, high, wide))
        parts = graph.transposed(parts, (0, 3, 4, 1, 5, 2))
    else:
        parts = graph.reshaped(x, (images, left, size, size, high, wide))
        parts = graph.transposed(parts, (0, 1, 4, 2, 5, 3))
    return graph.reshaped(graph.plain(parts), (images, left, high * size, wide * size))


def _space_to_depth(graph: Graph, node: Node) -> Value:
    x, size = node[0], node.get("blocksize", 1)
    images, channels, high, wide = x.shape
    parts = graph.reshaped(x, (images, channels, high // size, size, wide // size, size))
    parts = graph.plain(graph.transposed(parts, (0, 3, 5, 1, 2, 4)))
    return graph.reshaped(parts, (images, channels * size**2, high // size, wide // size))


def _same(graph: Graph, node: Node) -> Value:
    return node[0]


def _shape(graph: Graph, node: Node) -> Value:
    start, end = node.get("start", 0), node.get("end", None)
    return constant(np.array(node[0].shape[start:end], np.int64))


def _size(graph: Graph, node: Node) -> Value:
    return constant(np.array(np.prod(node[0].shape), np.int64))


def _concat(graph: Graph, node: Node) -> Value:
    return joined(graph, node.given, node.get("axis", 0))


WRITERS: Mapping[str, Writer] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "Identity": _same,
    "Dropout": _same,
    "Shape": _shape,
    "Size": _size,
}
"""Operators that move values, by their names in ONNX."""
