"""The Gaussian error unit, found again in what the exporter writes of it.

LiteRT has that unit, and no error function.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnx import GraphProto, NodeProto
from onnx.helper import make_node


def with_gelu(graph: GraphProto) -> list[NodeProto]:
    """Return the nodes of a graph, in which a node `Gelu` stands for x / 2 * (1 + erf(x / sqrt(2)))."""
    makers = {name: node for node in graph.node for name in node.output}
    units = dict[str, NodeProto]()
    for node in graph.node:
        x = _argument(node, makers)
        if x is not None:
            units[node.output[0]] = make_node("Gelu", [x], [node.output[0]])
    if not units:
        return list(graph.node)
    nodes = [units.get(node.output[0], node) for node in graph.node]
    return list(_read(nodes, {value.name for value in graph.output}))


def _argument(node: NodeProto, makers: Mapping[str, NodeProto]) -> str | None:
    """Return x if a node is the last of such a unit: (x * (erf(x / sqrt(2)) + 1)) * 0.5."""
    if node.op_type != "Mul":
        return None
    for name in node.input:
        product = makers.get(name)
        if product is None or product.op_type != "Mul":
            continue
        for x, other in (product.input, reversed(product.input)):
            more = makers.get(other)
            if more is None or more.op_type != "Add":
                continue
            for part in more.input:
                erf = makers.get(part)
                if erf is None or erf.op_type != "Erf":
                    continue
                shrunk = makers.get(erf.input[0])
                if shrunk is not None and shrunk.op_type == "Div" and shrunk.input[0] == x:
                    return str(x)
    return None


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
