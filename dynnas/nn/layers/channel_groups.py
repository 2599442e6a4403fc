"""Groups of hidden channels from which an image runs one, whole: `routes` and `tree` choose among them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynnas.nn.layers.hidden import ChosenHidden, MaskedHidden


class ChannelGroups:
    """The groups that a gate has an alternative for; the last of them holds all channels.

    No module: it holds nothing that is learned, and is the same wherever a network is built.
    """

    def __init__(self, groups: Sequence[Sequence[int]]) -> None:
        """`groups` are the channels of each."""
        self.hidden = len(groups[-1])
        self.members = [torch.tensor(own, device="cpu") for own in groups]
        self.table = torch.zeros(len(groups), self.hidden, device="cpu")
        for row, own in zip(self.table, self.members, strict=True):
            row[own] = 1

    def masked(self, block: nn.Module, x: Tensor, weights: Tensor, counted: bool) -> Tensor:
        """Run all channels of a block for images (B, C, H, W), weighted by `weights` (B, groups)."""
        # Not as a matrix product, which would count as multiply-adds that no image runs.
        hidden = MaskedHidden((weights[:, :, None] * self.table.to(weights)).sum(1), counted)
        found: Tensor = block(x, hidden)
        return found

    def branch(self, block: nn.Module, x: Tensor, group: int) -> Tensor:
        """Run the channels of one group alone, for images (B, C, H, W)."""
        own = self.members[group]
        whole = len(own) == self.hidden
        found: Tensor = block(x) if whole else block(x, ChosenHidden(own.to(x.device), self.hidden))
        return found
