"""Channels of a module of any class that may be dropped, as `dynnas.elastic` finds them.

What comes back is a module of the same class with smaller tensors.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.errors import SpaceError, TrainingError
from dynnas.nn.context import Context, Contextual, with_context
from dynnas.nn.gates.gate import Gated
from dynnas.nn.gates.mode import GateMode
from dynnas.supernet.conversion.choices import Choices
from dynnas.supernet.conversion.convert import elastic
from dynnas.supernet.conversion.groups import Group
from dynnas.supernet.conversion.network import TrainedNetwork
from dynnas.supernet.conversion.report import NO_REPORT

MULTIPLE, WIDE = 4, 16
"""Rounding of channel counts: `WIDE` or more become a multiple of `MULTIPLE`, for the vector registers."""

_TRIED = 0.5
"""The share of its channels with which each group is tried."""

_EVERYTHING = Context(GateMode())
"""The context in which gates and exits decide nothing that would not be computed."""


@dataclass(frozen=True)
class PrunableModule:
    """A module whose channels may be dropped.

    Attributes:
        module: is not changed. groups: channels that go together, by name.
    """

    module: nn.Module
    groups: Mapping[str, Group]
    _made: TrainedNetwork

    @staticmethod
    def of(module: nn.Module, shape: tuple[int, int, int]) -> PrunableModule:
        """Find the channels of a module in eval mode that takes images of `shape` (channels, height, width).

        Raises:
            TrainingError: there are none; the message says why.
        """
        images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        everything = with_context(module, _EVERYTHING)
        try:
            space = elastic(everything, images, width=(_TRIED,), divisor=1, depth=1, kernel=False)
        except SpaceError as error:
            raise TrainingError(f"prune: no channels of this network can be dropped: {error}") from error
        made = space.model
        assert isinstance(made, TrainedNetwork)
        own = tuple(_computed(module))
        groups = {
            choice.name: choice.what
            for choice in made.choices.listed
            if isinstance(choice.what, Group) and not f"{choice.what.name}.".startswith(own)
        }
        if not groups:
            reasons = "; ".join(f"{name}: {why}" for name, why in list(made.report.left_out.items())[:5])
            raise TrainingError(f"prune: no channels of {type(module).__name__} can be dropped: {reasons}")
        return PrunableModule(module, groups, made)

    def ordered(self, scores: Mapping[str, Tensor]) -> PrunableModule:
        """Return it with the channels of each group in the order of the scores of their weights.

        Args:
            scores: of each weight, by the names of parameters in the module.
        """
        groups = {name: replace(group, order=_order(group, scores)) for name, group in self.groups.items()}
        listed = tuple(
            replace(choice, what=groups.get(choice.name, choice.what)) for choice in self._made.choices.listed
        )
        before = self._made.choices
        choices = Choices(listed, before.followers, before.whole_groups, before.sizes)
        made = TrainedNetwork(self._made.network, choices, NO_REPORT, begun=self._made.begun)
        return PrunableModule(self.module, groups, made)

    def rewound(self, module: nn.Module) -> PrunableModule:
        """Return it with the weights of `module`, such as earlier ones of a training; the order stays."""
        network = copy.deepcopy(self._made.network)
        network.load_state_dict(module.state_dict())
        made = TrainedNetwork(network, self._made.choices, NO_REPORT, begun=self._made.begun)
        return PrunableModule(module, self.groups, made)

    def widths(self, amount: float) -> dict[str, int]:
        """Return what each group keeps without the share `amount`, rounded up so that it suits `MULTIPLE`."""
        return {name: left_of(group.size, amount) for name, group in self.groups.items()}

    def pruned(self, widths: Mapping[str, int]) -> nn.Module:
        """Return a module with this number of channels of each group, the most important ones, in eval mode.

        Raises:
            TrainingError: the module has no such group.
        """
        if unknown := sorted(widths.keys() - self.groups.keys()):
            raise TrainingError(f"prune: {type(self.module).__name__} has no channels {unknown[0]!r}")
        found = self._made({name: width * self.groups[name].each for name, width in widths.items()})
        layers = dict(self.module.named_modules())
        for name, layer in found.named_modules():
            if isinstance(layer, Contextual):
                layer.context = layers[name].context
        return found.eval()


def left_of(size: int, amount: float) -> int:
    """Return how many of `size` channels to leave without the share `amount`: at least one."""
    return min(size, whole(max(1, math.ceil(size * (1 - amount))), size))


def whole(left: int, size: int) -> int:
    """Return how many of `size` channels to leave where `left` are wanted: a multiple of many."""
    return MULTIPLE * math.ceil(left / MULTIPLE) if size >= WIDE else left


def _computed(module: nn.Module) -> Iterator[str]:
    """Yield beginnings of names in gates, routers and banks, whose sizes are no channels of the network."""
    for name, layer in module.named_modules():
        prefix = f"{name}." if name else ""
        if isinstance(layer, Gated):
            yield f"{prefix}gate."
        elif getattr(layer, "input_dependent", False):
            yield prefix
        elif type(layer).__module__.startswith("dynnas.nn.") and hasattr(layer, "router"):
            yield f"{prefix}router."


def _order(group: Group, scores: Mapping[str, Tensor]) -> np.ndarray:
    total = np.zeros(group.size)
    for place in group.places:
        if place.tensor in scores:
            values = scores[place.tensor].double()
            sums = values.movedim(place.axis, 0).flatten(1).sum(1).numpy()
            own = place.channels >= 0
            total += np.bincount(place.channels[own], weights=sums[own], minlength=group.size)
    return np.argsort(-total, kind="stable")
