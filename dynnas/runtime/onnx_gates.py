"""Graphs one after the other, and graphs of which a gate runs one.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnx import GraphProto, ModelProto, ValueInfoProto, checker, compose
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info


def chain(parts: Sequence[ModelProto]) -> ModelProto:
    """One model that runs `parts` one after the other.

    Args:
        parts: of one opset, each from `image` to `features`; what the last one gives, the chain gives.
    """
    if len(parts) == 1:
        return parts[0]
    given = [value.name for value in parts[-1].graph.output]
    for index, part in enumerate(parts):
        compose.add_prefix(part, f"part{index}/", inplace=True)
    graph = make_graph(
        [],
        "chain",
        [_renamed(parts[0].graph.input[0], "image")],
        [_renamed(value, name) for value, name in zip(parts[-1].graph.output, given, strict=True)],
    )
    handed = "image"
    for part in parts:
        graph.node.append(make_node("Identity", [handed], [part.graph.input[0].name]))
        _take_over(graph, part)
        handed = part.graph.output[0].name
    for value, name in zip(parts[-1].graph.output, given, strict=True):
        graph.node.append(make_node("Identity", [value.name], [name]))
    return _model(graph, parts)


def choose(decide: ModelProto, alternatives: Sequence[ModelProto]) -> ModelProto:
    """One model that runs one of `alternatives`, and nothing of the others: an `If` in each other's branch.

    Args:
        decide: from `image` to a bool (1,) for every alternative but the last: the first that is true is run,
            or the last if none is.
        alternatives: each from `image` to `features`.
    """
    asked = [value.name for value in decide.graph.output]
    features = _renamed(alternatives[-1].graph.output[0], "features")
    graph = make_graph([], "gate", [_renamed(decide.graph.input[0], "image")], [features])
    compose.add_prefix(decide, "decide/", inplace=True)
    graph.node.append(make_node("Identity", ["image"], [decide.graph.input[0].name]))
    _take_over(graph, decide)
    _add_choice(graph, 0, [f"decide/{name}" for name in asked], alternatives)
    return _model(graph, [decide, *alternatives])


def _add_choice(
    graph: GraphProto, index: int, asked: Sequence[str], alternatives: Sequence[ModelProto]
) -> None:
    """Put alternative `index` and those after it into `graph`, which declares its one output."""
    (result,) = graph.output
    if index == len(asked):
        _add_alternative(graph, index, alternatives[index])
        return
    branches = []
    for name in ("then", "else"):
        value = _renamed(result, f"{name}{index}/features")
        branches.append(make_graph([], f"{name}{index}", [], [value]))
    then, otherwise = branches
    _add_alternative(then, index, alternatives[index])
    _add_choice(otherwise, index + 1, asked, alternatives)
    graph.node.append(make_node("If", [asked[index]], [result.name], then_branch=then, else_branch=otherwise))


def _add_alternative(graph: GraphProto, index: int, alternative: ModelProto) -> None:
    # An inner graph sees the names of those around it: each alternative's get a prefix of their own.
    compose.add_prefix(alternative, f"alternative{index}/", inplace=True)
    graph.node.append(make_node("Identity", ["image"], [alternative.graph.input[0].name]))
    _take_over(graph, alternative)
    graph.node.append(make_node("Identity", [alternative.graph.output[0].name], [graph.output[0].name]))


def _take_over(graph: GraphProto, part: ModelProto) -> None:
    graph.node.extend(part.graph.node)
    graph.initializer.extend(part.graph.initializer)


def _renamed(value: ValueInfoProto, name: str) -> ValueInfoProto:
    tensor = value.type.tensor_type
    return make_tensor_value_info(name, tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim])


def _model(graph: GraphProto, parts: Sequence[ModelProto]) -> ModelProto:
    operators = {domain.domain: domain for part in parts for domain in part.opset_import}
    model = make_model(graph, producer_name="dynnas", opset_imports=list(operators.values()))
    model.ir_version = parts[0].ir_version
    checker.check_model(model)
    return model
