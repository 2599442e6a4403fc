"""Products of matrices.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import Graph, Value, lacking
from dynnas.runtimes.litert.layout import Order, plain
from dynnas.runtimes.litert.operators.elementwise import binary, number
from dynnas.runtimes.litert.operators.node import Node, Writer
from dynnas.runtimes.litert.operators.reduction import reduced

MOST_AXES = 5
"""The most axes of the values of a product."""


def _gemm(graph: Graph, node: Node) -> Value:
    x, weight, bias = node[0], node[1], node.optional(2)
    x = graph.transposed(x, (1, 0)) if node.get("transA", 0) else x
    weight = graph.transposed(weight, (1, 0)) if node.get("transB", 0) else weight
    alpha, beta = float(node.get("alpha", 1.0)), float(node.get("beta", 1.0))
    if weight.data is not None:
        rows = (alpha * weight.data.T).astype(np.float32)
        if bias is not None and bias.data is not None and bias.data.size == len(rows):
            own = np.asarray(beta * bias.data, np.float32).reshape(-1)
            return graph.product(graph.plain(x), rows, own)
        made = graph.product(graph.plain(x), rows)
    else:
        made = multiplied(graph, x, weight)
        made = made if alpha == 1 else binary(graph, "MUL", made, number(alpha))
    if bias is None:
        return made
    return binary(graph, "ADD", made, bias if beta == 1 else binary(graph, "MUL", bias, number(beta)))


def _matmul(graph: Graph, node: Node) -> Value:
    x, y = node[0], node[1]
    if y.rank == 2 and y.data is not None and x.rank > 1:
        return graph.product(graph.plain(x), np.ascontiguousarray(y.data.T).astype(np.float32))
    first = graph.reshaped(x, (1, *x.shape)) if x.rank == 1 else x
    second = graph.reshaped(y, (*y.shape, 1)) if y.rank == 1 else y
    made = multiplied(graph, first, second)
    if x.rank == 1:
        made = graph.reshaped(made, (*made.shape[:-2], made.shape[-1]))
    return graph.reshaped(made, made.shape[:-1]) if y.rank == 1 else made


def multiplied(graph: Graph, x: Value, y: Value) -> Value:
    """Return the products of matrices (..., N, K) and (..., K, M)."""
    if max(x.rank, y.rank) > MOST_AXES:
        raise lacking(f"products of matrices of the shapes {x.shape} and {y.shape}")
    around = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    (x, turned), (y, other) = _matrix(graph, x), _matrix(graph, y)
    options = Options("BatchMatMulOptions", adjX=turned, adjY=other)
    shape = (*around, x.shape[-2], y.shape[-1])
    return graph.emit("BATCH_MATMUL", [x, y], shape, options=options)


def _matrix(graph: Graph, value: Value) -> tuple[Value, bool]:
    """Return matrices that lie as a product takes them, and whether rows and columns are exchanged."""
    rank = value.rank
    exchanged: Order = (*range(rank - 2), rank - 1, rank - 2)
    if value.order == exchanged and value.data is None:
        return value, True
    return (value if value.order == plain(rank) else graph.plain(value)), False


def _einsum(graph: Graph, node: Node) -> Value:
    taken, _, given = node.get("equation", "").replace(" ", "").partition("->")
    words = taken.split(",")
    if len(words) != 2 or not given or "." in taken or any(len({*word}) < len(word) for word in words):
        raise lacking(f"Einsum of the equation {taken}->{given}")
    sizes = dict(zip("".join(words), (*node[0].shape, *node[1].shape), strict=True))
    both = [axis for axis in words[0] if axis in words[1]]
    around, summed = ([axis for axis in both if (axis in given) == kept] for kept in (True, False))
    parts, left = [], []
    for word, x in zip(words, node.given, strict=True):
        own = [axis for axis in word if axis not in both]
        if gone := [axis for axis in own if axis not in given]:
            x = reduced(graph, "SUM", x, [word.index(axis) for axis in gone], False)
            word, own = "".join(a for a in word if a not in gone), [a for a in own if a not in gone]
        left.append(own)
        x = graph.transposed(x, [word.index(axis) for axis in (*around, *own, *summed)])
        lengths = [int(np.prod([sizes[axis] for axis in axes])) for axes in (around, own, summed)]
        parts.append(graph.reshaped(x, lengths))
    made = multiplied(graph, parts[0], graph.transposed(parts[1], (0, 2, 1)))
    axes = [*around, *left[0], *left[1]]
    made = graph.reshaped(made, [sizes[axis] for axis in axes])
    return graph.transposed(made, [axes.index(axis) for axis in given])


WRITERS: Mapping[str, Writer] = {"Gemm": _gemm, "MatMul": _matmul, "Einsum": _einsum}
"""Products of matrices, by their names in ONNX."""
