"""The base of gates whose alternatives are groups of a block's hidden channels."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.gates.gate import HIDDEN, OPEN_BIAS, Decision, Gated, hidden_channels
from dynnas.nn.layers.channel_groups import ChannelGroups


class GroupedGate(Gated):
    """Runs the hidden channels of one group, or all of them, as the gate says."""

    requires = (*Gated.requires, HIDDEN)
    shares_norms = True
    branches = True

    names: ClassVar[tuple[str, ...]]
    """Names of the groups, without that of all channels."""

    @staticmethod
    @abstractmethod
    def groups_of(hidden: int) -> tuple[tuple[int, ...], ...]:
        """Return the channels of each group of `hidden` channels, and at last all of them."""

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the block has no hidden channels.
        """
        super().__init__(config, start=(*(0.0 for _ in self.names), OPEN_BIAS))
        self.groups = ChannelGroups(self.groups_of(hidden_channels(config)))

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives: the groups, and all channels."""
        return (*cls.names, "all")

    def choices(self) -> Tensor:
        """Return one decision for each group, and for all channels."""
        return torch.eye(len(self.names) + 1, dtype=torch.bool)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Compute all channels, and set those of other groups to zero."""
        return self.groups.masked(self.block, x, decision.weights, counted)

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Run a block of one group's channels."""
        return self.groups.branch(self.block, x, alternative)
