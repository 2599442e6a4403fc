"""Early exits beside a trained network, begun unsure of every image: none leaves early."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx, nn

from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.slicing import Rule, indices

NONE = "none"
"""The value of the choice of exits that has none of them."""

_LAYER = "2"
"""The name of the layer of an exit that reads channels."""


@dataclass(frozen=True)
class ExitsAt:
    """A choice of the modules behind which images may leave.

    Attributes:
        names: of the modules, in the order in which they run. channels: of their outputs.
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]

    @property
    def values(self) -> tuple[str, ...]:
        """The values: each alone, all, none."""
        return (*self.names, *(("+".join(self.names),) if len(self.names) > 1 else ()), NONE)

    def taken(self, value: str) -> tuple[str, ...]:
        """Return the modules of a value."""
        return () if value == NONE else tuple(value.split("+"))

    @staticmethod
    def key(name: str) -> str:
        """Return the name under which the channels behind a module are followed."""
        return f"exit:{name}"


@dataclass(frozen=True)
class Threshold:
    """A choice of how sure an exit must be."""


def unsure_exit(channels: int, outputs: int) -> nn.Module:
    """Return an exit from (B, channels, H, W) to logits (B, outputs), which are all 0."""
    layer = nn.Linear(channels, outputs)
    if not layer.weight.is_meta:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), layer).eval()


def exit_rules(kept: np.ndarray | None) -> Mapping[str, Rule]:
    """Return how the tensors of an exit are sliced that reads these channels."""
    return {} if kept is None else {f"{_LAYER}.weight": indices(tuple(kept.tolist()), 1)}


class _Tracer(fx.Tracer):
    """Records what modules run, and looks only into those around the exits."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self._names = names

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not any(name.startswith(f"{module_qualified_name}.") for name in self._names)


def why_not(network: nn.Module, names: Sequence[str]) -> str | None:
    """Return why a network cannot be taken apart behind these modules; None if it can."""
    try:
        graph = _Tracer(names).trace(network)
        training = _Tracer(names).trace(network.train())
    except Exception as error:  # whatever a forward pass may do with what is recorded
        said = next(iter(str(error).splitlines()), type(error).__name__)
        return f"torch.fx cannot record the forward pass: {said}"
    finally:
        network.eval()
    if str(graph) != str(training):
        return "the forward pass outside of its modules is another one in training"
    if len([node for node in graph.nodes if node.op == "placeholder" and node.users]) != 1:
        return "the network has more than one input"
    return next((reason for name in names if (reason := _problem(graph, name))), None)


def _problem(graph: fx.Graph, name: str) -> str | None:
    places = _places(graph, name)
    if len(places) != 1:
        return f"it runs {len(places)} times in the forward pass"
    cut = places[0]
    nodes = list(graph.nodes)
    at = nodes.index(cut)
    for node in nodes[:at]:
        if node.op != "get_attr" and any(nodes.index(user) > at for user in node.users):
            return f"{node.name} is used behind it as well"
    return None


def _places(graph: fx.Graph, name: str) -> list[fx.Node]:
    return [node for node in graph.nodes if node.op == "call_module" and node.target == name]


def with_exits(
    network: nn.Module, names: Sequence[str], exits: Sequence[nn.Module], threshold: float
) -> EarlyExits:
    """Return a network with an exit behind each of these modules; its own output is the last.

    Tensors of the network have their own names behind `stages.0.`, `stages.1.` and so on.
    """
    mode = network.training
    graph = _Tracer(names).trace(network)
    cuts = [_places(graph, name)[0] for name in names]
    stages = _stages(network, graph, cuts)
    return EarlyExits(stages, [*exits, nn.Identity()], threshold=threshold).train(mode)


def _stages(network: nn.Module, graph: fx.Graph, cuts: Sequence[fx.Node]) -> list[fx.GraphModule]:
    """Return the parts of a recorded network, each from the output of the one before."""
    stages: list[fx.GraphModule] = []
    part, known = fx.Graph(), dict[fx.Node, fx.Node]()

    def copied(node: fx.Node) -> fx.Node:
        if node not in known:  # a tensor of the network, which an earlier part has read as well
            known[node] = part.node_copy(node, copied)
        return known[node]

    def finish(result: Any) -> None:
        part.output(fx.node.map_arg(result, copied))
        stages.append(fx.GraphModule(network, part, type(network).__name__))

    for node in graph.nodes:
        if node.op == "placeholder" and not node.users:
            continue
        if node.op == "output":
            finish(node.args[0])
            break
        copied(node)
        if node in cuts:
            finish(node)
            part, known = fx.Graph(), {}
            known[node] = part.placeholder("x")
    return stages
