"""Operators that take values from places, or put them there.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import BOOL, FLOAT, Graph, Value, constant, lacking
from dynnas.runtimes.litert.operators.elementwise import binary, cast, select
from dynnas.runtimes.litert.operators.node import Node, Writer
from dynnas.runtimes.litert.operators.reduction import reduced
from dynnas.runtimes.litert.operators.shapes import sliced


def gathered(graph: Graph, x: Value, places: Value, axis: int) -> Value:
    """Return what stands at places of an axis, which becomes the axes of `places`."""
    axis %= x.rank
    if places.data is not None:
        places = constant(places.data % x.shape[axis])
        found = places.data
        assert found is not None
        if found.size == 1 or (found.ndim == 1 and (np.diff(found) == 1).all()):  # a run
            begins, sizes = [0] * x.rank, [*x.shape]
            begins[axis], sizes[axis] = int(found.reshape(-1)[0]), found.size
            part = sliced(graph, x, begins, sizes)
            return graph.reshaped(part, (*x.shape[:axis], *found.shape, *x.shape[axis + 1 :]))
    flat = graph.reshaped(graph.plain(places), (int(np.prod(places.shape)),))
    shape = [*x.shape]
    shape[axis] = flat.shape[0]
    options = Options("GatherOptions", axis=x.axis(axis))
    made = graph.emit("GATHER", [x, flat], shape, x.dtype, x.order, options)
    return graph.reshaped(made, (*x.shape[:axis], *places.shape, *x.shape[axis + 1 :]))


def _gather(graph: Graph, node: Node) -> Value:
    return gathered(graph, node[0], node[1], node.get("axis", 0))


def _gather_elements(graph: Graph, node: Node) -> Value:
    x, places, axis = node[0], node[1], node.get("axis", 0) % node[0].rank
    # Where a place stands in a flat value is computed from its own position, but for the axis.
    steps = np.array([int(np.prod(x.shape[each + 1 :])) for each in range(x.rank)])
    own = sum(
        np.arange(size).reshape([-1 if each == other else 1 for other in range(x.rank)]) * steps[each]
        for each, size in enumerate(places.shape)
        if each != axis
    )
    flat = binary(graph, "MUL", places, constant(np.array(steps[axis], np.int32)))
    flat = binary(graph, "ADD", flat, constant(np.broadcast_to(own, places.shape).astype(np.int32)))
    values = graph.reshaped(graph.plain(x), (int(np.prod(x.shape)),))
    return gathered(graph, values, graph.plain(flat), 0)


def one_hot(graph: Graph, places: Value, depth: int, axis: int) -> Value:
    """Return 1 at a place along a new axis, and 0 elsewhere, in float32."""
    axis %= places.rank + 1
    if places.data is None:
        places = graph.plain(places)
    options = Options("OneHotOptions", axis=axis)
    shape = [*places.shape[:axis], depth, *places.shape[axis:]]
    ends = [np.array(depth, np.int32), np.array(1, np.float32), np.array(0, np.float32)]
    return graph.emit("ONE_HOT", [places, *ends], shape, FLOAT, options=options)


def _one_hot(graph: Graph, node: Node) -> Value:
    (depth,) = node.ints("depth", 1) or [0]
    ends = node[2].data
    if ends is None:
        raise lacking("OneHot of values that depend on the image")
    made = one_hot(graph, node[0], depth, node.get("axis", -1))
    off, on = ends.tolist()
    made = cast(graph, made, node[2].dtype)
    if (off, on) == (0, 1):
        return made
    scaled = binary(graph, "MUL", made, constant(np.array(on - off, node[2].dtype)))
    return binary(graph, "ADD", scaled, constant(np.array(off, node[2].dtype)))


def _scatter_elements(graph: Graph, node: Node) -> Value:
    """Write values to distinct places along an axis, by where each of them is hot."""
    x, places, new = node[0], node[1], node[2]
    axis, how = node.get("axis", 0) % x.rank, node.get("reduction", "none")
    around = [size for each, size in enumerate(x.shape) if each != axis]
    if around != [size for each, size in enumerate(places.shape) if each != axis]:
        raise lacking("ScatterElements into a part of the other axes")
    if how not in ("none", "add") or x.dtype != FLOAT:
        raise lacking(f"ScatterElements that reduces by {how}, or of whole numbers")
    hot = one_hot(graph, places, x.shape[axis], axis)  # the axis, and behind it that of the places
    values = graph.reshaped(new, (*new.shape[:axis], 1, *new.shape[axis:]))
    put = reduced(graph, "SUM", binary(graph, "MUL", hot, values), [axis + 1], False)
    if how == "add":
        return binary(graph, "ADD", x, put)
    taken = reduced(graph, "REDUCE_MAX", hot, [axis + 1], False)
    free = binary(graph, "EQUAL", taken, constant(np.array(0, np.float32)), BOOL)
    return select(graph, free, x, put)


def _scatter_nd(graph: Graph, node: Node) -> Value:
    """Write slices to constant places, one after the other in memory."""
    x, places, new = node[0], node[1], node[2]
    if places.data is None or node.get("reduction", "none") != "none":
        raise lacking("ScatterND to places that depend on the image, or that reduces")
    depth = places.shape[-1]
    inner, outer = x.shape[depth:], int(np.prod(x.shape[:depth]))
    rows = np.ravel_multi_index(tuple(places.data.reshape(-1, depth).T), x.shape[:depth])
    size = int(np.prod(inner))
    # Rows of the old value and the new ones behind it: each row of the result is one of them.
    chosen = np.arange(outer)
    chosen[rows] = outer + np.arange(len(rows))
    parts = [
        graph.reshaped(graph.plain(value), (int(np.prod(value.shape)) // size, size)) for value in (x, new)
    ]
    shape = (parts[0].shape[0] + parts[1].shape[0], size)
    both = graph.emit("CONCATENATION", parts, shape, x.dtype, options=Options("ConcatenationOptions", axis=0))
    return graph.reshaped(gathered(graph, both, constant(chosen), 0), x.shape)


WRITERS: Mapping[str, Writer] = {
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "OneHot": _one_hot,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
}
"""Operators that take values from places, by their names in ONNX."""
