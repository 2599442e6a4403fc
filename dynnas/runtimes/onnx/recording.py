"""Graphs of modules in which each layer that branches is a node, which `splitting` puts its branches in.

The layers declare their branches (`dynnas.nn.branching`), so that they may stand anywhere in a module, also
in an alternative of another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from dynnas.nn.branching import Branching
from dynnas.nn.gates.state import Flow
from dynnas.runtimes.onnx.trace import SIDE_OUTPUT_PREFIX, trace

if TYPE_CHECKING:
    from onnx import ModelProto

DOMAIN, OPERATOR = "dynnas", "Branches"
"""Domain and type of the nodes that stand for layers that branch."""

Name = tuple[str, bool]
"""A value beside the map: its name, and whether it lasts (`dynnas.nn.gates.state.Carried`)."""


@dataclass(frozen=True)
class Call:
    """A call of a layer that branches.

    Attributes:
        layer: the layer.
        flow: what it was called with, as an example.
        takes, gives: values beside the map that it reads, and that it hands on.
    """

    layer: Branching
    flow: Flow
    takes: tuple[Name, ...]
    gives: tuple[Name, ...]


class Recorder:
    """Takes down the calls of layers that branch, while a graph is traced: the `run` of a `BranchMode`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def run(self, layer: Branching, flow: Flow) -> Flow:
        """Put a node into the graph, and return what the layer would with its largest alternative."""
        after = layer.alternative(layer.votes(flow)[1], layer.ways() - 1)
        carried = {carried.name for carried in layer.carried}
        takes = [(each.name, each.lasts) for each in layer.carried if flow.value(each) is not None]
        gives = [name for name in _new(flow, after) if name[0] in carried]
        index = len(self.calls)
        self.calls.append(Call(layer, flow, tuple(takes), tuple(gives)))
        outputs = _values(after, gives)
        x, *values = _Stand.apply(index, len(outputs), *_values(flow, takes), *outputs)
        kept = {name: value for name, value in after.beside.items() if name in {*flow.beside, *carried}}
        return with_values(Flow(x, kept, {}, flow.shared), gives, values)


class _Stand(torch.autograd.Function):
    """A node that stands for a layer: from its inputs, and examples of its outputs, to these."""

    @staticmethod
    def forward(ctx: Any, index: int, gives: int, *values: Tensor) -> Any:
        return tuple(value.clone() for value in values[-gives:])

    @staticmethod
    def symbolic(graph: Any, index: int, gives: int, *values: Any) -> Any:
        made = graph.op(f"{DOMAIN}::{OPERATOR}", *values[:-gives], index_i=index, outputs=gives)
        outputs = (made,) if gives == 1 else tuple(made)
        for output, example in zip(outputs, values[-gives:], strict=True):
            output.setType(example.type())
        return outputs[0] if gives == 1 else outputs


def with_values(flow: Flow, names: Sequence[Name], values: Sequence[Tensor]) -> Flow:
    """Return the flow with these values beside its map."""
    found: tuple[dict[str, Tensor], dict[str, Tensor]] = ({**flow.beside}, {**flow.next})
    for (name, lasts), value in zip(names, values, strict=True):
        found[not lasts][name] = value
    return Flow(flow.x, *found, flow.shared)


def _values(flow: Flow, names: Sequence[Name]) -> tuple[Tensor, ...]:
    """Return the map and these values, all of which must be there."""
    assert isinstance(flow.x, Tensor)
    return (flow.x, *((flow.beside if lasts else flow.next)[name] for name, lasts in names))


def _new(before: Flow, after: Flow) -> list[Name]:
    """Return the names of the values of `after` that are not those of `before`."""
    lasting = [(name, True) for name, value in after.beside.items() if value is not before.beside.get(name)]
    return lasting + [(n, False) for n, value in after.next.items() if value is not before.next.get(n)]


class _Part(nn.Module):
    """A function of a flow as one of tensors, which is what a graph can be of."""

    def __init__(self, call: Call, flow: Flow, takes: Sequence[Name]) -> None:
        super().__init__()
        self.layer, self.example, self.takes = call.layer, flow, takes

    def graph(self, outputs: Sequence[str]) -> ModelProto:
        """Return the graph, traced with the example."""
        values = _values(self.example, self.takes)
        return trace(self, values, ["image", *(name for name, _ in self.takes)], outputs)

    def flow(self, values: Sequence[Tensor]) -> Flow:
        """Put the inputs together again."""
        x, *beside = values
        return with_values(Flow(x, shared=self.example.shared), self.takes, beside)


class _Votes(_Part):
    """The part that decides: it gives the votes, (1,) each, then all that is new to the alternatives."""

    def __init__(self, call: Call) -> None:
        super().__init__(call, call.flow, call.takes)
        told = call.layer.votes(call.flow)[1]
        self.map = told.x is not call.flow.x
        self.gives = _new(call.flow, told)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        votes, told = self.layer.votes(self.flow(values))
        x, *beside = _values(told, self.gives)
        return (*votes.flatten().split(1), *([x] if self.map else []), *beside)


class _Alternative(_Part):
    """The part that an image runs if it takes one alternative."""

    def __init__(
        self, call: Call, told: Flow, takes: Sequence[Name], gives: Sequence[Name], index: int
    ) -> None:
        super().__init__(call, told, takes)
        self.index, self.gives = index, gives

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        return _values(self.layer.alternative(self.flow(values), self.index), self.gives)


@torch.no_grad()
def branches_of(call: Call) -> tuple[ModelProto, list[ModelProto]]:
    """Return the graphs of what decides, and of every alternative.

    The first has the outputs `logit0`, `logit1`, ..., `features` if it makes the map that alternatives take,
    and `given/NAME`; the others take `image` and these, and give `features` and values that they hand on.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    decides = _Votes(call)
    ways = call.layer.ways()
    votes = [f"logit{index}" for index in range(ways)]
    handed = [SIDE_OUTPUT_PREFIX + name for name, _ in decides.gives]
    question = decides.graph([*votes, *(["features"] if decides.map else []), *handed])
    told = call.layer.votes(call.flow)[1]
    takes = [*call.takes, *(name for name in decides.gives if name not in call.takes)]
    gives = [name for name in call.gives if name not in decides.gives]
    outputs = ["features", *(SIDE_OUTPUT_PREFIX + name for name, _ in gives)]
    made = [_Alternative(call, told, takes, gives, index).graph(outputs) for index in range(ways)]
    return question, made
