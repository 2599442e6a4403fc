"""Trial of choices: what does not run is left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from dynnas.supernet.conversion.analysis import Example
from dynnas.supernet.conversion.choices import RESOLUTION, Choices
from dynnas.supernet.conversion.member import Begun
from dynnas.supernet.conversion.network import TrainedNetwork
from dynnas.supernet.conversion.report import NO_REPORT

ROUNDS = 3
"""Times that what fails is left out before all is."""


@dataclass(frozen=True)
class Trial:
    """A network, inputs for it, and the outputs that it gives for them."""

    network: nn.Module
    begun: Begun
    example: Example
    outputs: Any

    def possible(self, choices: Choices) -> tuple[Choices, dict[str, str]]:
        """Return the choices without those that do not run, and why these do not.

        All are tried at their smallest first, and then halves of them: of any two choices, either is tried at
        its smallest where the other is at its largest. Each is tried alone if anything fails.
        """
        failed: dict[str, str] = {}
        reason = None
        for _ in range(ROUNDS):
            smallest = {choice.name: choice.values[0] for choice in choices.listed}
            if (reason := self._any_problem(choices, smallest)) is None:
                return choices, failed
            alone = {}
            for choice in choices.listed:
                if found := self.problem(choices, {choice.name: choice.values[0]}):
                    alone[choice.name] = found
            failed |= alone or self._together(choices)
            choices = choices.without(list(failed))
        return choices.without(list(choices.names)), {**failed, "the rest": str(reason)}

    def _any_problem(self, choices: Choices, smallest: Mapping[str, Any]) -> str | None:
        """Return why the smallest member or one of a half of its values fails; None if none does."""
        names = list(smallest)
        halves = [
            {name: smallest[name] for at, name in enumerate(names) if (at >> bit) % 2 == side}
            for bit in range((len(names) - 1).bit_length())
            for side in (0, 1)
        ]
        problems = (self.problem(choices, values) for values in (smallest, *halves))
        return next((each for each in problems if each is not None), None)

    def _together(self, choices: Choices) -> dict[str, str]:
        """Return what fails beside others: choices are taken in one by one."""
        values: dict[str, Any] = {}
        failed: dict[str, str] = {}
        for choice in choices.listed:
            values[choice.name] = choice.values[0]
            if reason := self.problem(choices, values):
                failed[choice.name] = reason
                del values[choice.name]
        return failed

    @torch.no_grad()
    def problem(self, choices: Choices, values: Mapping[str, Any]) -> str | None:
        """Return why a member does not do what the network does, in one line; None if it does."""
        trained = TrainedNetwork(self.network, choices, NO_REPORT, begun=self.begun)
        try:
            found = self.example.changed(lambda each: trained.images(values, each)).run(trained(values))
        except Exception as error:  # whatever its forward pass may raise
            said = next(iter(str(error).splitlines()), type(error).__name__)
            return f"the forward pass fails with fewer: {said}"
        sized = RESOLUTION in values
        shapes = tree_map(lambda each: _shape(each, sized), (found, self.outputs))
        return None if shapes[0] == shapes[1] else "outputs get another shape"


def _shape(output: Any, sized: bool) -> tuple[int, ...] | None:
    """Return the shape that a member's output has to have; that of maps may go with the images' size."""
    shape = getattr(output, "shape", None)
    if shape is None:
        return None
    return tuple(shape[:2] if sized and len(shape) == 4 else shape)
