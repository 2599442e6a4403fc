"""The Gaussian error unit, found again in the products that it is written as.

LiteRT has that unit, and no error function.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from onnx import GraphProto, NodeProto, TensorProto, numpy_helper
from onnx.helper import make_node


def with_gelu(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes of a graph, in which a node `Gelu` stands for x * (1 + erf(x / sqrt(2))) / 2."""
    if not any(node.op_type == "Erf" for node in graph.node):
        return list(graph.node)
    products = _Products(graph)
    units = {
        node.output[0]: make_node("Gelu", [x], [node.output[0]])
        for node in graph.node
        if (x := products.argument(node)) is not None
    }
    nodes = [units.get(node.output[0], node) for node in graph.node]
    return list(_read(nodes, {value.name for value in graph.output}))


class _Products:
    """The nodes and the numbers of a graph, by the names of their values."""

    def __init__(self, graph: GraphProto) -> None:
        self._makers = {name: node for node in graph.node for name in node.output}
        self._numbers = {tensor.name: _number(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and node.attribute[0].name == "value":
                self._numbers[node.output[0]] = _number(node.attribute[0].t)

    def argument(self, node: NodeProto) -> str | None:
        """Return x if a node is the last of such a unit."""
        if node.op_type != "Mul":
            return None
        factors = self._factors(node.output[0])
        if len(factors) != 3 or not any(self._is(name, 0.5) for name in factors):
            return None
        return next((x for name in factors if (x := self._inside(name)) in factors), None)

    def _factors(self, name: str, depth: int = 2) -> list[str]:
        node = self._makers.get(name)
        if node is None or node.op_type != "Mul" or not depth:
            return [name]
        return [factor for each in node.input for factor in self._factors(each, depth - 1)]

    def _inside(self, name: str) -> str | None:
        """Return x if a value is 1 + erf(x / sqrt(2))."""
        for erf in self._beside("Add", name, 1.0):
            node = self._makers.get(erf)
            if node is None or node.op_type != "Erf":
                continue
            root = math.sqrt(2)
            found = [*self._beside("Div", node.input[0], root), *self._beside("Mul", node.input[0], 1 / root)]
            return found[0] if found else None
        return None

    def _beside(self, kind: str, name: str, number: float) -> list[str]:
        """Return what an operator that makes a value takes beside a number."""
        node = self._makers.get(name)
        if node is None or node.op_type != kind:
            return []
        first, second = node.input
        found = [first] if self._is(second, number) else []
        return [*found, second] if kind != "Div" and self._is(first, number) else found

    def _is(self, name: str, number: float) -> bool:
        known = self._numbers.get(name)
        return known is not None and math.isclose(known, number, rel_tol=1e-6)


def _number(tensor: TensorProto) -> float | None:
    """Return a constant of one number; None if it has more."""
    array = numpy_helper.to_array(tensor)
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "fi" else None


def _read(nodes: list[NodeProto], outputs: set[str]) -> Iterator[NodeProto]:
    """Yield the nodes without those that made the parts of units, which nobody reads any more."""
    needed, kept = {*outputs}, list[NodeProto]()
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(_reads(node))
            kept.append(node)
    yield from reversed(kept)


def _reads(node: NodeProto) -> set[str]:
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {*node.input}.union(*(_reads(each) for graph in inner for each in graph.node))
