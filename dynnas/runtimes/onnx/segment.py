"""The graph of a part of a network for one image, with an `If` at every gate that branches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynnas.nn.exits import Leaving, answer, sureness
from dynnas.nn.gates.gate import Deciding
from dynnas.nn.gates.state import Carried, Flow, carried_by
from dynnas.nn.networks.network import Body, Segment
from dynnas.runtimes.onnx.trace import SIDE_OUTPUT_PREFIX, trace

if TYPE_CHECKING:
    from onnx import ModelProto

Pack = Callable[["ModelProto", bool, "bool | None"], "tuple[ModelProto, bool]"]
"""A function that makes a graph without branches ready for a runtime, as `packing.packing.pack_between`
does.
"""


def no_packing(part: ModelProto, takes: bool, gives: bool | None) -> tuple[ModelProto, bool]:
    """Leave the graph as it is."""
    return part, False


@torch.no_grad()
def segment_graph(segment: Segment, x: Tensor, laid_out: bool, pack: Pack) -> tuple[ModelProto, Tensor, bool]:
    """Return the graph from `image` to the classifier's outputs and, for an inner segment, `features`.

    Args:
        segment: folded, executed `real`. x: an image, or what the segment before made of one.
        laid_out: whether the graph gets `x` laid out for the processor.
        pack: to be done with every graph that does not branch.

    Returns:
        The graph, what goes on to the next segment, and whether that is laid out.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    graphs: list[ModelProto] = []
    modules, plain = list(segment.body), list[nn.Module]()
    start = flow = Flow(x)  # before and behind what is plain
    for index, module in enumerate(modules):
        if isinstance(module, Deciding) and module.branches_on(flow):
            if plain:
                slots = _Slots(plain, start, flow, modules[index:])
                part, laid_out = pack(slots.graph(start), laid_out, None)
                graphs.append(part)
            part, laid_out = _gate(module, flow, laid_out, pack)
            graphs.append(part)
            plain, flow = [], module(flow)
            start = flow
        else:
            plain.append(module)
            flow = Body(module).flow(flow)
    last = _Last(plain, start, segment)
    part, laid_out = pack(last.graph(start), laid_out, None)
    return _chain([*graphs, part]), last.body.packed(start), laid_out


def _chain(graphs: list[ModelProto]) -> ModelProto:
    from dynnas.runtimes.onnx.gates import chain

    return chain(graphs)


def _gate(gated: Deciding, flow: Flow, laid_out: bool, pack: Pack) -> tuple[ModelProto, bool]:
    from dynnas.runtimes.onnx.gate_logits import subtract_votes
    from dynnas.runtimes.onnx.gates import choose

    question = _Decide(gated, flow).graph(flow)
    subtract_votes(question)
    # Those that look at a value beside the map have no input for that.
    looks = any(value.name == "image" for value in question.graph.input)
    decide, _ = pack(question, laid_out and looks, False)
    told = flow.with_values(gated.votes(flow)[1])
    *fewer, whole = (_Alternative(gated, told, index).graph(told) for index in range(gated.ways()))
    last, gives = pack(whole, laid_out, None)
    return choose(decide, [*(pack(part, laid_out, gives)[0] for part in fewer), last]), gives


class _Part(nn.Module):
    """A function of the map and of the side values that are read, in the form that a graph can have."""

    def __init__(self, modules: Iterable[nn.Module], flow: Flow, told: Sequence[Carried] = ()) -> None:
        """Make it from an example `flow` of the input; `told` is read of it, too."""
        super().__init__()
        carried = dict.fromkeys([*(value for module in modules for value in carried_by(module)), *told])
        self.takes = [value for value in carried if flow.value(value) is not None]
        self.shared = flow.shared  # constants of the graph
        self.outputs: list[str] = []

    def graph(self, flow: Flow) -> ModelProto:
        """Return the graph, traced with the example of the input."""
        names = [value.name for value in self.takes]
        values = [flow.value(value) for value in self.takes]
        return trace(self, (flow.x, *values), ["image", *names], self.outputs)  # type: ignore[arg-type]

    def flow(self, x: Tensor, values: Sequence[Tensor]) -> Flow:
        """Return the input as a flow again."""
        found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
        for carried, value in zip(self.takes, values, strict=True):
            found[not carried.lasts][carried.name] = value
        return Flow(x, *found, self.shared)


class _Slots(_Part):
    """Slots one after the other, up to a gate that branches."""

    def __init__(
        self, modules: Sequence[nn.Module], start: Flow, end: Flow, later: Iterable[nn.Module]
    ) -> None:
        """Make it from examples `start` and `end` of its input and output; `later` slots follow."""
        super().__init__(modules, start)
        self.body = Body(*modules)
        wanted = {value for module in later for value in carried_by(module)}
        carried = dict.fromkeys(value for module in modules for value in carried_by(module))
        self.gives = [value for value in carried if value in wanted and _is_new(value, start, end)]
        self.outputs = ["features", *(SIDE_OUTPUT_PREFIX + value.name for value in self.gives)]

    def forward(self, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return _told(self.body.flow(self.flow(x, values)), self.gives)


class _Last(_Part):
    """The rest of a segment and its classifier: the input of an exit's decision, and the features that go
    on.
    """

    def __init__(self, modules: Sequence[nn.Module], start: Flow, segment: Segment) -> None:
        """Make it from an example `start` of its input."""
        super().__init__(modules, start)
        self.body, self.classifier, self.place = Body(*modules), segment.classifier, segment.exit
        self.outputs = ["logits"]
        if self.place is not None:
            # The largest softmax is computed where the graphs are joined.
            more = ["sureness"] if self.place.criterion != "confidence" else []
            self.outputs = ["logits", "features", *more]

    def forward(self, x: Tensor, *values: Tensor) -> Tensor | tuple[Tensor, ...]:
        features = self.body.packed(self.flow(x, values))
        output = self.classifier(features)
        return output if self.place is None else _of_exit(features, output, self.place)


def _of_exit(features: Tensor, output: Tensor, place: Leaving) -> tuple[Tensor, ...]:
    logits = answer(output, place.criterion)
    if place.criterion == "confidence":
        return logits, features
    return logits, features, sureness(output, place.criterion)


class _Decide(_Part):
    """The logits of a gate that branches, (1,) each, and the values that deciding hands on or tells."""

    def __init__(self, gated: Deciding, flow: Flow) -> None:
        super().__init__((gated,), flow)
        self.gated = gated
        self.handed = list(gated.votes(flow)[1])
        self.outputs = [
            *(f"logit{index}" for index in range(gated.ways())),
            *(SIDE_OUTPUT_PREFIX + name for name in self.handed),
        ]

    def forward(self, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        found, beside = self.gated.votes(self.flow(x, values))
        return (*found.flatten().split(1), *(beside[name] for name in self.handed))


class _Alternative(_Part):
    """The part that an image runs which takes one alternative."""

    def __init__(self, gated: Deciding, flow: Flow, alternative: int) -> None:
        super().__init__((gated,), flow, gated.told)
        self.gated, self.alternative = gated, alternative
        after = gated.alternative(flow, gated.ways() - 1)
        self.gives = [value for value in gated.carried if _is_new(value, flow, after)]
        self.outputs = ["features", *(SIDE_OUTPUT_PREFIX + value.name for value in self.gives)]

    def forward(self, x: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        return _told(self.gated.alternative(self.flow(x, values), self.alternative), self.gives)


def _is_new(value: Carried, before: Flow, after: Flow) -> bool:
    found = after.value(value)
    return found is not None and found is not before.value(value)


def _told(flow: Flow, gives: Sequence[Carried]) -> tuple[Tensor, ...]:
    values = [flow.value(value) for value in gives]
    return (flow.x, *values)  # type: ignore[arg-type]  # a map, and values that are there
