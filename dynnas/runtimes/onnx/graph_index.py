"""An index of an ONNX graph without branches: producers, constants and shapes by the names of values.

onnx_ir has these too, but its passes need a conversion there and back for every rewrite: sorting and pruning
a graph of 122 nodes took 16 ms by onnx_ir 1.1 and 1.0 ms here (23 nodes: 10 and 0.3 ms; medians of 15
alternating runs, machine busy), and packing a network, which takes 0.3 s, does that about ten times.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper


class GraphIndex:
    """A graph without branches as it is now, by the names of its values.

    Attributes:
        graph: the graph itself.
        constants: the arrays of its initialisers and of its nodes that are constants.
        producer: the node that makes a value.
        shape: of each value that the graph declares.
    """

    def __init__(self, graph: GraphProto) -> None:
        """Look at `graph`, whose axes are all fixed."""
        self.graph = graph
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and (value := attribute(node, "value")) is not None:
                self.constants[node.output[0]] = numpy_helper.to_array(value)
        self.producer = {name: node for node in graph.node for name in node.output}
        self.shape = {
            value.name: tuple(axis.dim_value for axis in value.type.tensor_type.shape.dim)
            for value in (*graph.value_info, *graph.input, *graph.output)
        }

    def origin(self, name: str) -> str:
        """Return the value whose memory `name` shows under another shape: the one before any reshaping."""
        while (node := self.producer.get(name)) is not None and self._keeps_order(node):
            name = node.input[0]
        return name

    def _keeps_order(self, node: NodeProto) -> bool:
        if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"):
            return True
        if node.op_type != "Transpose":
            return False
        shape = self.shape.get(node.input[0], ())
        order = [axis for axis in attribute(node, "perm") or () if axis < len(shape) and shape[axis] != 1]
        return bool(shape) and order == sorted(order)


def attribute(node: NodeProto, name: str) -> Any:
    """Return the value of a node's attribute, None if it has none of that name."""
    for found in node.attribute:
        if found.name == name:
            return helper.get_attribute_value(found)
    return None


def sort_and_prune(graph: GraphProto) -> None:
    """Sort the nodes of `graph` into an order in which they can run, without those that no output needs."""
    producer = {name: node for node in graph.node for name in node.output}
    order: dict[int, NodeProto] = {}
    waiting = [producer[value.name] for value in reversed(graph.output) if value.name in producer]
    while waiting:
        node = waiting[-1]
        before = [producer[name] for name in node.input if name in producer]
        missing = [node for node in before if id(node) not in order]
        if missing and id(node) not in order:
            waiting.extend(reversed(missing))
        else:
            order.setdefault(id(node), waiting.pop())
    _replace(graph.node, list(order.values()))
    used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    _replace(graph.initializer, [tensor for tensor in graph.initializer if tensor.name in used])


def _replace(field: Any, messages: Sequence[NodeProto] | Sequence[TensorProto]) -> None:
    # Clearing a repeated field frees its messages, so those to keep are copied first.
    copies = [type(message).FromString(message.SerializeToString()) for message in messages]
    del field[:]
    field.extend(copies)
