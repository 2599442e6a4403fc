"""SkipNet: blocks that an image passes by (Wang et al. 2018, arXiv:1711.09485)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.gates.family import register_gate
from dynnas.nn.gates.gate import OPEN_BIAS, Decision, Gated


@register_gate("skip")
class Skip(Gated):
    """Runs the block, or passes its input on: G(x) F(x) + (1 - G(x)) x (equation 1).

    Gates that all read the policy network (`gate_reads`) decide at once, as in BlockDrop (Wu et al. 2018,
    arXiv:1711.08393), but learn by Gumbel draws and the budget of all gates, where BlockDrop has rewards.
    In the paper's networks F has no identity of its own for skipped blocks; here it is any block whole.
    """

    name = "skip"
    capacity = 10
    paper = "Wang et al. 2018, arXiv:1711.09485"
    keeps_shape = True
    shares_norms = False
    branches = True

    def __init__(self, config: BlockConfig, block: nn.Module | None = None) -> None:
        """Build from its config, around `block` if one is given.

        Raises:
            SpaceError: the block changes the shape, so that its input cannot stand for its output.
        """
        super().__init__(config, start=(0.0, OPEN_BIAS), block=block)

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        """Return the alternatives: nothing, or everything."""
        return ("skip", "run")

    def choices(self) -> Tensor:
        """Return one decision for each alternative."""
        return torch.eye(2, dtype=torch.bool)

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        """Weight the block's output and its input by the decision."""
        passed, run = decision.weights[:, :, None, None, None].unbind(1)
        return run * self.block(x) + passed * x

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        """Run the block, or nothing."""
        return self.block(x) if alternative else x

    def together(self, x: Tensor, decision: Decision, context: Context = PLAIN) -> Tensor:
        """Run the images that take the block, and put them among the others, which are copied once."""
        rows = decision.choice[:, 1].nonzero().flatten()
        if len(rows) == len(x):
            return self.block(x)
        y = x.clone()
        if len(rows):
            y[rows] = self.block(x[rows])
        return y
