"""Graphs put together from parts whose values are known by the names that they have in the whole.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, compose
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info


class Assembly:
    """A graph that takes and gives what `whole` does, made of parts that are added in their order."""

    def __init__(self, whole: ModelProto) -> None:
        self._whole = whole
        self._inputs = {value.name: renamed(value, value.name) for value in whole.graph.input}
        self._ends = {value.name: renamed(value, value.name) for value in whole.graph.output}
        self._known = {name: name for name in self._inputs}
        self._kinds: dict[str, ValueInfoProto] = {}
        self._nodes: list[NodeProto] = []
        self._tensors: list[TensorProto] = []
        self._operators = {domain.domain: domain for domain in whole.opset_import}
        self._made: set[str] = set()
        self._map: ValueInfoProto | None = None
        self._constants = {tensor.name: tensor for tensor in whole.graph.initializer}
        self._constant_nodes = {
            node.output[0]: node for node in whole.graph.node if node.op_type == "Constant"
        }

    def add(
        self,
        scope: str,
        part: ModelProto,
        image: str,
        takes: Mapping[str, str],
        gives: Mapping[str, str],
        ends: Collection[str] = (),
    ) -> str:
        """Add a part.

        Args:
            scope: goes before the names of its values; ends in a slash, and no other part has it.
            part: is no longer of use by itself.
            image: the value that it takes as `image`.
            takes: the value in the whole of every other input. gives: of every output but `features`.
            ends: its outputs that are those of the whole.

        Returns:
            The name of its `features`, to be the `image` of the next part.
        """
        inputs = [value.name for value in part.graph.input]
        outputs = {value.name: renamed(value, value.name) for value in part.graph.output}
        if image in self._inputs and "image" in inputs:  # it may be laid out
            (own,) = (value for value in part.graph.input if value.name == "image")
            self._inputs[image] = renamed(own, image)
        self._map = outputs.get("features", self._map)
        compose.add_prefix(part, scope, inplace=True)
        for name in inputs:
            source = image if name == "image" else self._value(takes[name])
            self._nodes.append(make_node("Identity", [source], [scope + name]))
        self._nodes.extend(part.graph.node)
        self._tensors.extend(part.graph.initializer)
        self._operators |= {domain.domain: domain for domain in part.opset_import}
        for output, value in gives.items():
            self._known[value], self._kinds[value] = scope + output, outputs[output]
        for name in ends:
            self._ends[name] = outputs[name]
            self._give(scope + name, name)
        return f"{scope}features"

    def _give(self, source: str, name: str) -> None:
        """Make a value the output `name`, by its maker if nobody else reads it: OpenVINO knows no others."""
        self._made.add(name)
        makers = [node for node in self._nodes if source in node.output]
        if makers and not any(source in read for read in map(_read_by, self._nodes)):
            makers[0].output[:] = [name if own == source else own for own in makers[0].output]
        else:
            self._nodes.append(make_node("Identity", [source], [name]))

    def _value(self, name: str) -> str:
        """Return the name here of a value of the whole."""
        if name not in self._known and name in self._constants:
            self._tensors.append(self._constants[name])
            self._known[name] = name
        elif name not in self._known and name in self._constant_nodes:
            self._nodes.append(self._constant_nodes[name])
            self._known[name] = name
        return self._known[name]

    def model(self, maps: Mapping[str, str]) -> ModelProto:
        """Return the whole; `maps` are the names here of maps that may be its outputs."""
        for name in self._ends:
            if name not in self._made:
                own = self._map if name in maps else self._kinds.get(name)
                if own is not None:  # a part may know a shape that the whole does not
                    self._ends[name] = renamed(own, name)
                self._give(maps.get(name) or self._value(name), name)
        graph = make_graph(
            self._nodes, "network", [*self._inputs.values()], [*self._ends.values()], self._tensors
        )
        operators = [domain for domain in self._operators.values() if domain.domain != "dynnas"]
        model = make_model(graph, producer_name="dynnas", opset_imports=operators)
        model.ir_version = self._whole.ir_version
        checker.check_model(model)
        return model


def _read_by(node: NodeProto) -> set[str]:
    """Return the values that a node and the graphs in it read."""
    inner = [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return {*node.input}.union(*(_read_by(each) for graph in inner for each in graph.node))


def renamed(value: ValueInfoProto, name: str) -> ValueInfoProto:
    """Return a declaration of the same type and shape under another name; what is unknown of it stays so."""
    tensor = value.type.tensor_type
    known = tensor.HasField("shape")
    axes = [axis.dim_value if axis.HasField("dim_value") else None for axis in tensor.shape.dim]
    return make_tensor_value_info(name, tensor.elem_type, axes if known else None)


def graphs_in(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and those of its branches."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from graphs_in(attribute.g)


def rename_uses(graph: GraphProto, old: str, new: str) -> None:
    """Rename a value wherever nodes take it, in branches too."""
    for inner in graphs_in(graph):
        for node in inner.node:
            for index, name in enumerate(node.input):
                if name == old:
                    node.input[index] = new
