"""DS-Net: how wide a block is inside, for each image (Li et al. 2021, arXiv:2103.13258)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.gate import HIDDEN, OPEN_BIAS, Decision, Gated, hidden_channels
from dynnas.nn.layers.hidden import ChosenHidden, MaskedHidden

SHARES = (0.25, 0.5, 0.75, 1.0)
"""The shares of the hidden channels; the paper's gate has four widths too."""


@register_gate("width")
class Width(Gated):
    """Runs the leading quarter, half, three quarters or all of the hidden channels, as its head says.

    The block's own output keeps its width: what other blocks read does not depend on the image. The paper's
    gate takes the same share of a whole stage.

    Runtime neural pruning chooses from the same four cumulative groups of channels, by a recurrent network
    that learns their values (Lin et al. 2017, Runtime Neural Pruning, section 3.2: Q-learning). Its idea, to
    learn from what the choice led to, is the estimator `reinforce` of `gate_learning` here: by policy
    gradient.
    """

    name = "width"
    capacity = 60
    paper = "Li et al. 2021, arXiv:2103.13258"
    requires = (*Gated.requires, HIDDEN)
    shares_norms = True
    branches = True

    def __init__(self, config: BlockConfig) -> None:
        """Build from its config.

        Raises:
            SpaceError: the block has no hidden channels.
        """
        super().__init__(config, start=(*(0.0 for _ in SHARES[1:]), OPEN_BIAS))
        self.hidden = hidden_channels(config)
        self.widths = tuple(math.ceil(share * self.hidden) for share in SHARES)

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives, by their share of the hidden channels."""
        return tuple(f"{share:g}" for share in SHARES)

    def choices(self) -> Tensor:
        """Return one decision for each width."""
        return torch.eye(len(SHARES), dtype=torch.bool)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Compute all channels, and set those beyond an image's width to zero."""
        # A channel is there for every width beyond it.
        covered, masks = torch.zeros_like(decision.weights[:, :1]), []
        for index in reversed(range(len(self.widths))):
            covered = covered + decision.weights[:, index : index + 1]
            new = self.widths[index] - (self.widths[index - 1] if index else 0)
            if new:  # two shares of few channels may be equal; ONNX knows no expansion to none
                masks.append(covered.expand(-1, new))
        return self.block(x, MaskedHidden(torch.cat(masks[::-1], dim=1), counted))

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Run a block of one width."""
        width = self.widths[alternative]
        if width == self.hidden:
            return self.block(x)
        return self.block(x, ChosenHidden(width, self.hidden))
