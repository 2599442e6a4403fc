"""A node of an ONNX graph, as the functions that write it in operators of LiteRT take it.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnx import NodeProto
from onnx.helper import get_attribute_value

from dynnas.runtimes.litert.graph import Graph, Value, numbers

Writer = Callable[[Graph, "Node"], "Value | Sequence[Value]"]
"""A function that writes a node, and returns its outputs."""


@dataclass(frozen=True)
class Node:
    """A node with its inputs, None for those that are left out.

    Attributes:
        kind: the operator, such as `Conv`.
        attributes: by their names.
        inputs: their values.
        outputs: how many it has.
    """

    kind: str
    attributes: Mapping[str, Any]
    inputs: Sequence[Value | None]
    outputs: int

    @staticmethod
    def of(node: NodeProto, inputs: Sequence[Value | None]) -> Node:
        """Return a node of a graph."""
        attributes = {each.name: get_attribute_value(each) for each in node.attribute}
        return Node(node.op_type, attributes, inputs, len(node.output))

    def __getitem__(self, index: int) -> Value:
        """Return an input that must be there."""
        value = self.inputs[index]
        assert value is not None
        return value

    @property
    def given(self) -> list[Value]:
        """The inputs that are there."""
        return [value for value in self.inputs if value is not None]

    def optional(self, index: int) -> Value | None:
        """Return an input, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def get(self, name: str, default: Any) -> Any:
        """Return an attribute; text as `str`."""
        found = self.attributes.get(name, default)
        return found.decode() if isinstance(found, bytes) else found

    def ints(self, name: str, index: int) -> list[int] | None:
        """Return whole numbers from an attribute or an input; None where neither is there.

        Raises:
            TargetError: they depend on the image.
        """
        if name in self.attributes:
            return [int(each) for each in self.attributes[name]]
        value = self.optional(index)
        return None if value is None else numbers(value, f"{self.kind} with {name}")
