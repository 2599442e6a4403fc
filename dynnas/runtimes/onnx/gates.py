"""Joining of alternatives from which a gate runs one.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnx import GraphProto, ModelProto, ValueInfoProto, checker, compose
from onnx.helper import make_graph, make_model, make_node

from dynnas.runtimes.onnx.assembly import renamed
from dynnas.runtimes.onnx.trace import SIDE_OUTPUT_PREFIX


def _taken_as(name: str) -> str:
    return "image" if name == "features" else name.removeprefix(SIDE_OUTPUT_PREFIX)


def choose(decide: ModelProto, alternatives: Sequence[ModelProto]) -> ModelProto:
    """Return one model that runs one of `alternatives`, and nothing of the others.

    Each `If` asks in which half of those that are left the largest logit lies: one after the other they would
    be asked twice as often, and an argmax takes four times as long as what is asked here.

    Args:
        decide: from `image`, and values beside it, to the logit (1,) of every alternative: the one with the
            largest is run, of equals the first. Then come `features`, if alternatives take another map than
            it does, and values that it hands on.
        alternatives: each from `image`, values beside it and what `decide` hands on to `features`, and values
            that it hands on itself: all of them to the same.
    """
    told, handed, logits = {}, [], []
    for value in decide.graph.output:
        if value.name == "features" or value.name.startswith(SIDE_OUTPUT_PREFIX):
            told[_taken_as(value.name)] = f"decide/{value.name}"
            handed += [renamed(value, value.name)] if value.name != "features" else []
        else:
            logits.append(f"decide/{value.name}")
    results = [renamed(value, value.name) for value in alternatives[-1].graph.output]
    for part in alternatives:
        _rename_inputs(part.graph, told)
    takes = {value.name: value for part in (decide, *alternatives) for value in part.graph.input}
    inputs = [renamed(value, name) for name, value in takes.items() if name not in told.values()]
    graph = make_graph([], "gate", inputs, [*results, *handed])
    _add_part(graph, "decide/", decide)
    _add_choice(graph, 0, logits, alternatives, results)
    for value in handed:
        graph.node.append(make_node("Identity", [f"decide/{value.name}"], [value.name]))
    return _model(graph, [decide, *alternatives])


def _add_choice(
    graph: GraphProto,
    first: int,
    logits: Sequence[str],
    alternatives: Sequence[ModelProto],
    results: Sequence[ValueInfoProto],
) -> None:
    """Put the alternatives from `first` on into `graph`, which declares the `results`."""
    if len(alternatives) == 1:
        _add_alternative(graph, first, alternatives[0], results)
        return
    middle = (len(alternatives) + 1) // 2
    branches, best = [], []
    for start, stop in ((0, middle), (middle, len(alternatives))):
        scope = f"from{first + start}to{first + stop}/"
        branch = make_graph([], scope, [], [renamed(value, scope + value.name) for value in results])
        _add_choice(branch, first + start, logits[start:stop], alternatives[start:stop], branch.output)
        branches.append(branch)
        best.append(logits[start])
        if stop - start > 1:
            best[-1] = f"{scope}best"
            graph.node.append(make_node("Max", logits[start:stop], best[-1:]))
    asked = f"at{first + middle}/before"
    graph.node.append(make_node("GreaterOrEqual", best, [asked]))
    then, otherwise = branches
    names = [value.name for value in results]
    graph.node.append(make_node("If", [asked], names, then_branch=then, else_branch=otherwise))


def _add_alternative(
    graph: GraphProto, index: int, alternative: ModelProto, results: Sequence[ValueInfoProto]
) -> None:
    gives = [value.name for value in alternative.graph.output]
    # An inner graph sees the names of those around it: each alternative's get a prefix of their own.
    scope = f"alternative{index}/"
    _add_part(graph, scope, alternative)
    for name, result in zip(gives, results, strict=True):
        graph.node.append(make_node("Identity", [scope + name], [result.name]))


def _add_part(graph: GraphProto, scope: str, part: ModelProto) -> None:
    """Add a part with the same names of inputs as the whole."""
    takes = [value.name for value in part.graph.input]
    compose.add_prefix(part, scope, inplace=True)
    for name in takes:
        graph.node.append(make_node("Identity", [name], [scope + name]))
    _take_over(graph, part)


def _rename_inputs(graph: GraphProto, names: Mapping[str, str]) -> None:
    for value in graph.input:
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]


def _take_over(graph: GraphProto, part: ModelProto) -> None:
    graph.node.extend(part.graph.node)
    graph.initializer.extend(part.graph.initializer)


def _model(graph: GraphProto, parts: Sequence[ModelProto]) -> ModelProto:
    operators = {domain.domain: domain for part in parts for domain in part.opset_import}
    model = make_model(graph, producer_name="dynnas", opset_imports=list(operators.values()))
    model.ir_version = parts[0].ir_version
    checker.check_model(model)
    return model
