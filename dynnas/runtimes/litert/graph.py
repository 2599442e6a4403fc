"""A graph of LiteRT while it is built from one of ONNX, value by value.

Imports ai_edge_litert: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dynnas.errors import TargetError
from dynnas.runtimes.litert.flatbuffer import Model, Options, Scale, Subgraph, known
from dynnas.runtimes.litert.layout import Order, laid, plain, regrouped, transposed, without_ones

FLOAT, INT, BOOL = np.dtype("float32"), np.dtype("int32"), np.dtype("bool")


@dataclass(frozen=True)
class Rows:
    """A product with constant rows, by which a value was made: `weight` (N, K) times `x` (1, K), plus `bias`.

    Where the value has to lie in another order, the rows are put into that, and nothing is copied each time.
    """

    x: Value
    weight: np.ndarray
    bias: np.ndarray | None


@dataclass(frozen=True)
class Value:
    """A value of the graph, or a constant.

    Attributes:
        shape: as torch has it. dtype: float32, int32, int8 or bool.
        order: of its axes in memory.
        tensor: its number in the subgraph; -1 for a constant.
        data: of a constant, in the shape; in the type that ONNX has.
        rows: how it was made, if by a product with constant rows.
        scale: of whole numbers that stand for others; its axis is one of the shape.
        whole: the value in whole numbers that it was read from.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    order: Order
    tensor: int = -1
    data: np.ndarray | None = None
    rows: Rows | None = None
    scale: Scale | None = None
    whole: Value | None = None

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def is_plain(self) -> bool:
        """True if it lies in memory as its shape says."""
        return self.order == plain(self.rank)

    def axis(self, axis: int) -> int:
        """Return where an axis lies, which may be counted from the end."""
        return self.order.index(axis % self.rank)


def constant(array: np.ndarray) -> Value:
    """Return a constant; it gets a tensor where an operator takes it."""
    array = np.asarray(array)
    return Value(array.shape, known(array[:0] if array.ndim else array).dtype, plain(array.ndim), data=array)


def numbers(value: Value | None, what: str) -> list[int]:
    """Return a constant as whole numbers.

    Raises:
        TargetError: it depends on the image; `what` says what it is.
    """
    if value is None or value.data is None:
        raise lacking(f"{what} that depends on the image")
    return [int(each) for each in value.data.reshape(-1)]


def lacking(what: str) -> TargetError:
    """Return the error that LiteRT does not have something."""
    return TargetError(
        f"target: LiteRT cannot run this network: it has no {what}; write that part with other operators, or "
        "use runtime onnxruntime or torch"
    )


Input = Value | np.ndarray | None
"""The input of an operator: a value as it lies, a constant, or nothing where it is left out."""


class Graph:
    """Emits operators into a subgraph, whose values it knows by their names in the ONNX graph.

    Args:
        subgraph: to be filled. around: the graph whose values this one sees as well.
    """

    def __init__(self, subgraph: Subgraph, around: Graph | None = None) -> None:
        self.subgraph, self.around = subgraph, around
        self.values: dict[str, Value] = {}
        self.captured: dict[str, Value] = {}
        self._arranged: dict[tuple[int, tuple[int, ...], Order, Order], Value] = {}
        self._shaped_from: dict[int, Value] = {}

    @property
    def model(self) -> Model:
        """The model that it is a part of."""
        return self.subgraph.model

    def value(self, name: str) -> Value:
        """Return a value by its name in the ONNX graph; one of a graph around becomes an input."""
        if name not in self.values:
            assert self.around is not None, f"no value is called {name}"
            self.capture(name, self.around.value(name))
        return self.values[name]

    def capture(self, name: str, outer: Value) -> None:
        """Make a value of the graph around known here, by an input if it is no constant."""
        if outer.data is None and name not in self.captured:
            shape = laid(outer.shape, outer.order)
            tensor = self.subgraph.tensor(shape, outer.dtype, scale=outer.scale)
            outer = replace(outer, tensor=tensor, rows=None, whole=None)
            self.captured[name] = outer
        self.values.setdefault(name, outer)

    def emit(
        self,
        code: str,
        inputs: Sequence[Input],
        shape: Sequence[int],
        dtype: np.dtype = FLOAT,
        order: Order | None = None,
        options: Options | None = None,
        scale: Scale | None = None,
    ) -> Value:
        """Add an operator of one output.

        Args:
            code: as the schema spells it.
            inputs: values as they lie, constants, or None for one that is left out.
            shape, dtype, order: of the output; plain without an order.
            options: the settings.
            scale: of the output, if that is in whole numbers.
        """
        return self.emit_all(code, inputs, [shape], [dtype], order, options, scale)[0]

    def emit_all(
        self,
        code: str,
        inputs: Sequence[Input],
        shapes: Sequence[Sequence[int]],
        dtypes: Sequence[np.dtype],
        order: Order | None = None,
        options: Options | None = None,
        scale: Scale | None = None,
    ) -> list[Value]:
        """Add an operator of several outputs, which lie alike: see `emit`."""
        made = []
        for shape, dtype in zip(shapes, dtypes, strict=True):
            own = plain(len(shape)) if order is None else order
            tensor = self.subgraph.tensor(laid(shape, own), dtype, scale=scale)
            made.append(Value(tuple(shape), dtype, own, tensor, scale=scale))
        taken = [self.tensor(each) for each in inputs]
        self.subgraph.operator(code, taken, [value.tensor for value in made], options)
        return made

    def tensor(self, value: Input) -> int:
        """Return the number of a value's tensor, which a constant gets here."""
        if value is None:
            return -1
        if isinstance(value, np.ndarray):
            return self.subgraph.constant(value)
        if value.data is not None:
            scale = value.scale and replace(value.scale, axis=value.order.index(value.scale.axis))
            return self.subgraph.constant(value.data.transpose(value.order), scale)
        return value.tensor

    def arranged(self, value: Value, order: Order) -> Value:
        """Return a value whose axes lie in this order."""
        if value.order == order:
            return value
        if value.data is not None:
            return replace(value, order=order)
        key = value.tensor, value.shape, value.order, order
        if key not in self._arranged:
            self._arranged[key] = self._arrange(value, order)
        return self._arranged[key]

    def _arrange(self, value: Value, order: Order) -> Value:
        shape = laid(value.shape, order)
        if without_ones(value.shape, value.order) == without_ones(value.shape, order):
            made = self._shaped(value, shape)
        elif value.rows is not None:
            rows = value.rows
            moved = np.arange(len(rows.weight)).reshape(value.shape).transpose(order).reshape(-1)
            bias = None if rows.bias is None else rows.bias[moved]
            made = self._shaped(self.product(rows.x, rows.weight[moved], bias), shape)
        else:
            axes = np.array([value.order.index(axis) for axis in order], np.int32)
            options = Options("TransposeOptions")
            made = self.emit(
                "TRANSPOSE", [value, axes], shape, value.dtype, options=options, scale=value.scale
            )
        return Value(value.shape, value.dtype, order, made.tensor, scale=value.scale)

    def plain(self, value: Value) -> Value:
        """Return a value that lies in memory as its shape says."""
        return self.arranged(value, plain(value.rank))

    def _shaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Return what lies in memory under another shape; of several in a row the last is left."""
        first = self._shaped_from.get(value.tensor, value)
        if laid(first.shape, first.order) == tuple(shape):
            return Value(tuple(shape), value.dtype, plain(len(shape)), first.tensor, scale=value.scale)
        options, sizes = Options("ReshapeOptions", newShape=list(shape)), np.array(shape, np.int32)
        made = self.emit("RESHAPE", [first, sizes], shape, value.dtype, options=options, scale=value.scale)
        self._shaped_from[made.tensor] = first
        return made

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Return a value in another shape, copied only where the order of its axes demands that."""
        shape = tuple(shape)
        if shape == value.shape:
            return value
        if value.data is not None:
            return constant(value.data.reshape(shape))
        order = regrouped(value.shape, shape, value.order)
        if order is None:
            value, order = self.plain(value), plain(len(shape))
        made = self._shaped(value, laid(shape, order))
        return Value(shape, value.dtype, order, made.tensor, rows=value.rows, scale=value.scale)

    def transposed(self, value: Value, axes: Sequence[int]) -> Value:
        """Return a value with permuted axes, which is not copied."""
        if value.data is not None:
            return constant(value.data.transpose(axes))
        shape = laid(value.shape, tuple(axes))
        return replace(value, shape=shape, order=transposed(value.order, axes), rows=None, whole=None)

    def product(self, x: Value, weight: np.ndarray, bias: np.ndarray | None = None) -> Value:
        """Return `x` (..., K), which is plain, times the rows of `weight` (N, K), plus `bias` (N,)."""
        shape = (*x.shape[:-1], len(weight))
        options = Options("FullyConnectedOptions", keepNumDims=True)
        made = self.emit("FULLY_CONNECTED", [x, weight, bias], shape, options=options)
        return replace(made, rows=Rows(x, weight, bias)) if len(weight) == np.prod(shape) else made

    def together(self, values: Sequence[Value]) -> tuple[list[Value], tuple[int, ...], Order]:
        """Return values that are broadcast against each other in one order, their shape together, and that.

        The largest value that depends on the image stays as it lies.
        """
        shape = np.broadcast_shapes(*(value.shape for value in values))
        full = [value for value in values if value.rank == len(shape) and value.data is None]
        order = max(full, key=lambda value: np.prod(value.shape)).order if full else plain(len(shape))
        found = []
        for value in values:
            if full and value.data is not None and value.data.size == 1:
                value = constant(value.data.reshape(()))
            elif order != plain(len(shape)) or value.rank < len(shape):
                value = self.arranged(self._lifted(value, len(shape)), order)
            else:
                value = self.arranged(value, order)
            found.append(value)
        return found, shape, order

    def _lifted(self, value: Value, rank: int) -> Value:
        """Return a value with as many axes, the new ones before its own."""
        return self.reshaped(value, (1,) * (rank - value.rank) + value.shape)
