"""Operators that work number by number, and those of truth values.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce

import numpy as np

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import BOOL, FLOAT, INT, Graph, Value, constant, lacking
from dynnas.runtimes.litert.operators.node import Node, Writer

MOST_AXES = 4
"""The most axes of values that every operator broadcasts."""

_OPTIONS = {
    "ADD": "AddOptions", "SUB": "SubOptions", "MUL": "MulOptions", "DIV": "DivOptions", "POW": "PowOptions",
    "MAXIMUM": "MaximumMinimumOptions", "MINIMUM": "MaximumMinimumOptions", "FLOOR_MOD": "FloorModOptions",
    "FLOOR_DIV": "FloorDivOptions", "SQUARED_DIFFERENCE": "SquaredDifferenceOptions",
    "GELU": "GeluOptions", "LEAKY_RELU": "LeakyReluOptions",
}  # fmt: skip


_SELU = {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875}
"""The defaults of ONNX."""


_ERF = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""The factors of powers of t, the highest first."""


def number(value: float) -> Value:
    """Return a constant of one float32."""
    return constant(np.array(value, np.float32))


def unary(graph: Graph, code: str, x: Value, dtype: np.dtype | None = None, **fields: object) -> Value:
    """Return what an operator makes of each number of `x`."""
    options = Options(_OPTIONS[code], **fields) if code in _OPTIONS else None
    return graph.emit(code, [x], x.shape, dtype or x.dtype, x.order, options)


def binary(graph: Graph, code: str, x: Value, y: Value, dtype: np.dtype | None = None) -> Value:
    """Return what an operator makes of pairs of numbers, of values that are broadcast."""
    dtype = x.dtype if dtype is None else dtype
    shape = np.broadcast_shapes(x.shape, y.shape)
    options = Options(_OPTIONS[code]) if code in _OPTIONS else None
    if len(shape) > MOST_AXES and x.shape != y.shape:
        x, y, inner = _fewer_axes(graph, x, y)
        return graph.reshaped(graph.emit(code, [x, y], inner, dtype, options=options), shape)
    values, shape, order = graph.together([x, y])
    return graph.emit(code, values, shape, dtype, order, options)


def _fewer_axes(graph: Graph, x: Value, y: Value) -> tuple[Value, Value, tuple[int, ...]]:
    """Return two plain values, with axes joined that are broadcast alike, and the shape of both together."""
    rank = max(x.rank, y.rank)
    shapes = [(1,) * (rank - value.rank) + value.shape for value in (x, y)]
    runs: list[list[int]] = []
    alike: list[tuple[bool, bool]] = []
    for axis in range(rank):
        sizes = [shape[axis] for shape in shapes]
        if max(sizes) == 1:
            continue
        kind = sizes[0] == 1, sizes[1] == 1
        if alike and alike[-1] == kind:
            runs[-1].append(axis)
        else:
            runs.append([axis])
            alike.append(kind)
    if len(runs) > MOST_AXES:
        raise lacking(f"operators over values of the shapes {x.shape} and {y.shape}")
    joined = [tuple(int(np.prod([shape[axis] for axis in run])) for run in runs) for shape in shapes]
    first, second = (
        graph.plain(graph.reshaped(graph.plain(v), new)) for v, new in zip((x, y), joined, strict=True)
    )
    return first, second, np.broadcast_shapes(*joined)


def sigmoid(graph: Graph, x: Value) -> Value:
    """Return the logistic function of each number."""
    return unary(graph, "LOGISTIC", x)


def clipped(graph: Graph, x: Value, low: float | None, high: float | None) -> Value:
    """Return each number, but none below or above these."""
    if x.dtype == FLOAT and low == 0:
        x, low = unary(graph, "RELU6" if high == 6 else "RELU", x), None
        high = None if high == 6 else high
    for limit, code in ((low, "MAXIMUM"), (high, "MINIMUM")):
        if limit is not None:
            x = binary(graph, code, x, constant(np.array(limit, x.dtype)))
    return x


def cast(graph: Graph, x: Value, dtype: np.dtype) -> Value:
    """Return a value in another type."""
    if x.dtype == dtype:
        return x
    return graph.emit("CAST", [x], x.shape, dtype, x.order, Options("CastOptions"))


def select(graph: Graph, condition: Value, x: Value, y: Value) -> Value:
    """Return `x` where the condition holds, else `y`; they are broadcast."""
    if max(value.rank for value in (condition, x, y)) > MOST_AXES:
        shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
        condition, x, y = (broadcast(graph, value, shape) for value in (condition, x, y))
        flat = [graph.reshaped(graph.plain(value), (int(np.prod(shape)),)) for value in (condition, x, y)]
        return graph.reshaped(graph.emit("SELECT_V2", flat, flat[0].shape, x.dtype), shape)
    values, shape, order = graph.together([condition, x, y])
    return graph.emit("SELECT_V2", values, shape, x.dtype, order, Options("SelectV2Options"))


def broadcast(graph: Graph, value: Value, shape: Sequence[int]) -> Value:
    """Return a value repeated to a shape."""
    shape = tuple(shape)
    if value.shape == shape:
        return value
    if value.data is not None:
        return constant(np.broadcast_to(value.data, shape))
    value = graph.plain(graph.reshaped(value, (1,) * (len(shape) - value.rank) + value.shape))
    options, sizes = Options("BroadcastToOptions"), np.array(shape, np.int32)
    return graph.emit("BROADCAST_TO", [value, sizes], shape, value.dtype, options=options)


def _unary(code: str) -> Writer:
    return lambda graph, node: unary(graph, code, node[0])


def _binary(code: str) -> Writer:
    return lambda graph, node: binary(graph, code, node[0], node[1])


def _comparison(code: str) -> Writer:
    return lambda graph, node: binary(graph, code, node[0], node[1], BOOL)


def _of_many(code: str) -> Writer:
    """Return a writer of an operator that takes any number of inputs."""
    return lambda graph, node: reduce(lambda x, y: binary(graph, code, x, y), node.given)


def _divide(graph: Graph, node: Node) -> Value:
    code = "DIV" if node[0].dtype == FLOAT else "FLOOR_DIV"
    return binary(graph, code, node[0], node[1])


def _clip(graph: Graph, node: Node) -> Value:
    limits = [node.optional(1), node.optional(2)]
    if any(limit is not None and limit.data is None for limit in limits):
        raise lacking("Clip between values that depend on the image")
    low, high = (None if limit is None else limit.data.item() for limit in limits)  # type: ignore[union-attr]
    return clipped(graph, node[0], low, high)


def _cast(graph: Graph, node: Node) -> Value:
    from onnx.helper import tensor_dtype_to_np_dtype

    kind = np.dtype(tensor_dtype_to_np_dtype(node.get("to", 1))).kind
    return cast(graph, node[0], {"f": FLOAT, "b": BOOL}.get(kind, INT))


def _hard_sigmoid(graph: Graph, node: Node) -> Value:
    slope, middle = float(node.get("alpha", 0.2)), float(node.get("beta", 0.5))
    if abs(slope - 1 / 6) < 1e-6 and middle == 0.5:
        shifted = clipped(graph, binary(graph, "ADD", node[0], number(3)), 0, 6)
        return binary(graph, "MUL", shifted, number(1 / 6))
    scaled = binary(graph, "MUL", node[0], number(slope))
    return clipped(graph, binary(graph, "ADD", scaled, number(middle)), 0, 1)


def _softplus(graph: Graph, node: Node) -> Value:
    x = node[0]
    small = unary(graph, "EXP", unary(graph, "NEG", unary(graph, "ABS", x)))
    tail = unary(graph, "LOG", binary(graph, "ADD", small, number(1)))
    return binary(graph, "ADD", unary(graph, "RELU", x), tail)


def _softsign(graph: Graph, node: Node) -> Value:
    return binary(graph, "DIV", node[0], binary(graph, "ADD", unary(graph, "ABS", node[0]), number(1)))


def _reciprocal(graph: Graph, node: Node) -> Value:
    return binary(graph, "DIV", number(1), node[0])


def _elu(graph: Graph, node: Node) -> Value:
    alpha = float(node.get("alpha", 1.0))
    return unary(graph, "ELU", node[0]) if alpha == 1 else _exponential(graph, node[0], alpha)


def _exponential(graph: Graph, x: Value, alpha: float) -> Value:
    """Return x above 0, and alpha * (exp(x) - 1) below."""
    below = binary(graph, "MUL", unary(graph, "ELU", binary(graph, "MINIMUM", x, number(0))), number(alpha))
    return binary(graph, "ADD", unary(graph, "RELU", x), below)


def _selu(graph: Graph, node: Node) -> Value:
    alpha, gamma = (float(node.get(name, default)) for name, default in _SELU.items())
    return binary(graph, "MUL", _exponential(graph, node[0], alpha), number(gamma))


def _prelu(graph: Graph, node: Node) -> Value:
    x, slope = node[0], node[1]
    below = binary(graph, "MUL", binary(graph, "MINIMUM", x, number(0)), slope)
    return binary(graph, "ADD", unary(graph, "RELU", x), below)


def _leaky(graph: Graph, node: Node) -> Value:
    return unary(graph, "LEAKY_RELU", node[0], alpha=float(node.get("alpha", 0.01)))


def _gelu(graph: Graph, node: Node) -> Value:
    return unary(graph, "GELU", node[0], approximate=node.get("approximate", "none") == "tanh")


def _erf(graph: Graph, node: Node) -> Value:
    """Write the error function by formula 7.1.26 of Abramowitz and Stegun, to within 1.5e-7."""
    x = node[0]
    size = unary(graph, "ABS", x)
    place = binary(graph, "ADD", binary(graph, "MUL", size, number(0.3275911)), number(1))
    t = binary(graph, "DIV", number(1), place)
    tail = number(_ERF[0])
    for factor in _ERF[1:]:
        tail = binary(graph, "ADD", binary(graph, "MUL", t, tail), number(factor))
    bell = unary(graph, "EXP", unary(graph, "NEG", binary(graph, "MUL", size, size)))
    below = binary(graph, "MUL", binary(graph, "MUL", tail, t), bell)
    return binary(graph, "MUL", _sign(graph, node), binary(graph, "SUB", number(1), below))


def _mish(graph: Graph, node: Node) -> Value:
    return binary(graph, "MUL", node[0], unary(graph, "TANH", _softplus(graph, node)))


def _sign(graph: Graph, node: Node) -> Value:
    x = node[0]
    above, below = (binary(graph, code, x, number(0), BOOL) for code in ("GREATER", "LESS"))
    return binary(graph, "SUB", cast(graph, above, FLOAT), cast(graph, below, FLOAT))


def _where(graph: Graph, node: Node) -> Value:
    return select(graph, node[0], node[1], node[2])


def _expand(graph: Graph, node: Node) -> Value:
    shape = np.broadcast_shapes(node[0].shape, tuple(node.ints("shape", 1) or ()))
    return broadcast(graph, node[0], shape)


def _mod(graph: Graph, node: Node) -> Value:
    if node.get("fmod", 0):
        raise lacking("Mod with the sign of what is divided")
    return binary(graph, "FLOOR_MOD", node[0], node[1])


def _sum_of_many(graph: Graph, node: Node) -> Value:
    return reduce(lambda x, y: binary(graph, "ADD", x, y), node.given)


def _mean_of_many(graph: Graph, node: Node) -> Value:
    return binary(graph, "MUL", _sum_of_many(graph, node), number(1 / len(node.given)))


_UNARY = {
    "Abs": "ABS", "Neg": "NEG", "Exp": "EXP", "Log": "LOG", "Sqrt": "SQRT", "Floor": "FLOOR", "Ceil": "CEIL",
    "Round": "ROUND", "Sin": "SIN", "Cos": "COS", "Tanh": "TANH", "Sigmoid": "LOGISTIC", "Relu": "RELU",
    "HardSwish": "HARD_SWISH", "Not": "LOGICAL_NOT",
}  # fmt: skip

_BINARY = {
    "Add": "ADD", "Sub": "SUB", "Mul": "MUL", "Pow": "POW", "And": "LOGICAL_AND", "Or": "LOGICAL_OR",
    "Xor": "NOT_EQUAL",
}  # fmt: skip

_COMPARISONS = {
    "Equal": "EQUAL", "Greater": "GREATER", "GreaterOrEqual": "GREATER_EQUAL", "Less": "LESS",
    "LessOrEqual": "LESS_EQUAL",
}  # fmt: skip

WRITERS: Mapping[str, Writer] = {
    **{kind: _unary(code) for kind, code in _UNARY.items()},
    **{kind: _binary(code) for kind, code in _BINARY.items()},
    **{kind: _comparison(code) for kind, code in _COMPARISONS.items()},
    "Max": _of_many("MAXIMUM"),
    "Min": _of_many("MINIMUM"),
    "Sum": _sum_of_many,
    "Mean": _mean_of_many,
    "Div": _divide,
    "Mod": _mod,
    "Clip": _clip,
    "Cast": _cast,
    "HardSigmoid": _hard_sigmoid,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Mish": _mish,
    "Reciprocal": _reciprocal,
    "Elu": _elu,
    "Selu": _selu,
    "PRelu": _prelu,
    "LeakyRelu": _leaky,
    "Gelu": _gelu,
    "Erf": _erf,
    "Sign": _sign,
    "Where": _where,
    "Expand": _expand,
}
"""The operators that work number by number, by their names in ONNX."""
