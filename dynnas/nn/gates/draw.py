"""The record of layers that draw what they do next, and learn by what becomes of it."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Draw:
    """The draw of a layer for each image of a batch, as far as `policy_gradient` learns by it.

    Attributes:
        likelihood: (B,), the logarithm of the probability of what was drawn; 0 where nothing was.
        expected: (B,), the reward that the layer expects, by what it knew before the draw.
        drawn: (B,), 1 for images that there was a draw for, else 0; None for all of them.
        cost: (B,), the share of all work that follows from the draw; None for none that depends on it.
    """

    likelihood: Tensor
    expected: Tensor
    drawn: Tensor | None = None
    cost: Tensor | None = None
