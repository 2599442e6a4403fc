"""ONNX graphs for one image as models of LiteRT, whose branches stay branches.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, numpy_helper
from onnx.helper import get_node_attr_value, make_graph, make_model, make_opsetid, make_tensor_value_info
from onnx.reference import ReferenceEvaluator

from dynnas.runtimes.litert.flatbuffer import Model, Options
from dynnas.runtimes.litert.gelu import with_gelu
from dynnas.runtimes.litert.graph import FLOAT, Graph, Value, constant, lacking
from dynnas.runtimes.litert.layout import Order, plain
from dynnas.runtimes.litert.operators.node import Node
from dynnas.runtimes.litert.operators.table import WRITERS
from dynnas.runtimes.litert.operators.whole_numbers import SCALING, in_whole_numbers, scales_behind

OWN = ("ai.onnx", "")
"""The domains of the operators of ONNX itself."""


def to_litert(model: ModelProto, metadata: Mapping[str, str] | None = None) -> bytes:
    """Return the model of LiteRT, a .tflite file: as the ONNX graph, with `exit` (1,) in int32.

    Args:
        model: of one image, with input `image` (1, channels, height, width), and with branches.
        metadata: texts that it keeps, by their names.

    Raises:
        TargetError: LiteRT has not an operator of it; names that.
    """
    made, graph = Model(), model.graph
    (image,) = graph.input
    shape = tuple(axis.dim_value for axis in image.type.tensor_type.shape.dim)
    whole = Graph(made.subgraph("main"))
    tensor = whole.subgraph.tensor(shape, FLOAT)
    whole.subgraph.inputs.append(tensor)
    whole.subgraph.names[tensor] = image.name
    whole.values[image.name] = Value(shape, FLOAT, plain(len(shape)), tensor)
    _Conversion(model).fill(whole, graph)
    for value in graph.output:
        tensor = whole.tensor(whole.plain(whole.value(value.name)))
        whole.subgraph.outputs.append(tensor)
        whole.subgraph.names[tensor] = value.name
    return made.to_bytes(metadata or {})


class _Conversion:
    """The conversion of one model.

    Args:
        model: as a whole, for the versions of its operators.
    """

    def __init__(self, model: ModelProto) -> None:
        self._opset = next((each.version for each in model.opset_import if each.domain in OWN), 18)

    def fill(self, graph: Graph, source: GraphProto) -> None:
        """Write the nodes of a graph of ONNX, and make its values known by their names."""
        for tensor in source.initializer:
            graph.values[tensor.name] = constant(numpy_helper.to_array(tensor))
        nodes = with_gelu(source)
        scales = scales_behind(nodes, {value.name for value in source.output})
        for node in nodes:
            inputs = [graph.value(name) if name else None for name in node.input]
            made = self._in_whole_numbers(graph, node, inputs, scales) or self._write(graph, node, inputs)
            graph.values.update(zip(node.output, made, strict=False))

    def _write(self, graph: Graph, node: NodeProto, inputs: Sequence[Value | None]) -> Sequence[Value]:
        if node.op_type == "If":
            return self._branch(graph, node, inputs[0])
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            return [constant(numpy_helper.to_array(node.attribute[0].t))]
        if node.op_type not in SCALING and all(each is None or each.data is not None for each in inputs):
            return self._folded(node, inputs)
        if node.op_type not in WRITERS or node.domain not in OWN:
            raise lacking(f"operator {node.op_type}")
        made = WRITERS[node.op_type](graph, Node.of(node, inputs))
        return [made] if isinstance(made, Value) else made

    def _in_whole_numbers(
        self,
        graph: Graph,
        node: NodeProto,
        inputs: Sequence[Value | None],
        scales: Mapping[str, Sequence[str]],
    ) -> list[Value] | None:
        """Write a node in int8; None where that is not done."""
        if node.output[0] not in scales or node.op_type in ("Constant", "If"):
            return None
        made = in_whole_numbers(graph, Node.of(node, inputs), *map(graph.value, scales[node.output[0]]))
        return None if made is None else [made]

    def _folded(self, node: NodeProto, inputs: Sequence[Value | None]) -> list[Value]:
        """Return the outputs of a node whose inputs are constants."""
        given = {
            name: value.data for name, value in zip(node.input, inputs, strict=True) if value is not None
        }
        takes = [make_tensor_value_info(name, 1, None) for name in given]
        gives = [make_tensor_value_info(name, 1, None) for name in node.output]
        alone = make_graph([node], "node", takes, gives)
        model = make_model(alone, opset_imports=[make_opsetid("", self._opset)])
        return [constant(np.asarray(made)) for made in ReferenceEvaluator(model).run(None, given)]

    def _branch(self, graph: Graph, node: NodeProto, asked: Value | None) -> list[Value]:
        """Write an `If`: both branches are subgraphs that take the same values, and give theirs alike."""
        assert asked is not None
        sources = [get_node_attr_value(node, name) for name in ("then_branch", "else_branch")]
        if asked.data is not None:
            source = sources[0 if asked.data.item() else 1]
            self.fill(graph, source)
            return [graph.value(value.name) for value in source.output]
        branches = [Graph(graph.model.subgraph(name), graph) for name in ("then", "else")]
        for branch, source in zip(branches, sources, strict=True):
            self.fill(branch, source)
        results = [
            [branch.value(value.name) for value in source.output]
            for branch, source in zip(branches, sources, strict=True)
        ]
        orders = [_common_order(*pair) for pair in zip(*results, strict=True)]
        captured = dict.fromkeys(name for branch in branches for name in branch.captured)
        for branch, values in zip(branches, results, strict=True):
            for name in captured:
                branch.capture(name, graph.value(name))
            branch.subgraph.inputs.extend(branch.captured[name].tensor for name in captured)
            branch.subgraph.outputs.extend(
                branch.tensor(branch.arranged(value, order))
                for value, order in zip(values, orders, strict=True)
            )
        then, otherwise = (branch.subgraph.number for branch in branches)
        options = Options("IfOptions", thenSubgraphIndex=then, elseSubgraphIndex=otherwise)
        return _emit_if(graph, [asked, *map(graph.value, captured)], results[0], orders, options)


def _emit_if(
    graph: Graph, inputs: Sequence[Value], like: Sequence[Value], orders: Sequence[Order], options: Options
) -> list[Value]:
    made = []
    for value, order in zip(like, orders, strict=True):
        shape = tuple(value.shape[axis] for axis in order)
        tensor = graph.subgraph.tensor(shape, value.dtype)
        made.append(Value(value.shape, value.dtype, order, tensor))
    taken = [graph.tensor(value) for value in inputs]
    graph.subgraph.operator("IF", taken, [value.tensor for value in made], options)
    return made


def _common_order(first: Value, second: Value) -> Order:
    """Return the order in which both branches of an `If` give a value.

    Raises:
        TargetError: they give it in other shapes.
    """
    if first.shape != second.shape:
        raise lacking(f"If whose branches give the shapes {first.shape} and {second.shape}")
    for value in (first, second):
        if value.data is None and not value.is_plain:
            return value.order
    return plain(first.rank)
