"""Joining feature maps so that narrower networks are a leading part of wider ones.

A concatenation puts the second part where the first ends, and so at another place for every width: weights
that read its channels would mean different things at different widths. Taking channels in turn from both
parts keeps every channel's place. It is a concatenation up to the order of channels, which the next
convolution learns anyway.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Interleave(nn.Module):
    """Channels of two feature maps in turn: a0, b0, a1, b1, ..., then what is left of the wider one."""

    def __init__(self, first: int, second: int) -> None:
        """Build it for `first` and `second` channels."""
        super().__init__()
        self.first, self.second = first, second

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Map (B, `first`, H, W) and (B, `second`, H, W) to (B, `first` + `second`, H, W)."""
        if self.first == self.second:
            return torch.stack((a, b), 2).flatten(1, 2)
        pairs = min(self.first, self.second)
        left = a[:, pairs:] if self.first > self.second else b[:, pairs:]
        return torch.cat((torch.stack((a[:, :pairs], b[:, :pairs]), 2).flatten(1, 2), left), 1)

    def extra_repr(self) -> str:
        """Return both numbers of channels."""
        return f"{self.first}, {self.second}"
