"""Fully connected layers of a width that the input chooses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.nn.blocks_by_name import gate_around, real_in_evaluation
from dynnas.nn.config.network import BlockConfig
from dynnas.nn.context import Context
from dynnas.nn.gates.families.width import SHARES
from dynnas.nn.gates.gate import OPEN_BIAS, Decision, Gated
from dynnas.nn.gates.state import Flow


class ConditionalMLP(nn.Module):
    """Two linear layers with a ReLU between them, of whose hidden units an input runs the leading part.

    It is conditional computation in fully connected layers (Bengio et al. 2015, arXiv:1511.06297): a policy
    that looks at the input says which blocks of units run. There each block is drawn by itself; here a
    quarter, half, three quarters or all of the units run, as in `gate: width`, so that they are two matrix
    products of leading parts and a graph for one input has an `If` with four branches. The policy learns as
    all gates do, by default from straight-through draws; with `gate_learning: {estimator: reinforce}` as in
    the paper. `dynnas.training.Trainer` keeps the multiply-adds to the target, where the paper has a price on
    the mean and the variance of its decisions.

    Args:
        inputs, hidden, outputs: numbers of units.
        target: the share of the two layers' multiply-adds to be used, in the mean over inputs.

    Raises:
        SpaceError: the target is not above 0 and at most 1, or a number of units is below 1.
    """

    def __init__(self, inputs: int, hidden: int, outputs: int, target: float = 0.5) -> None:
        super().__init__()
        if min(inputs, hidden, outputs) < 1:
            raise SpaceError(
                f"ConditionalMLP: {inputs} inputs, {hidden} hidden units and {outputs} outputs; allowed: 1 "
                "or more of each"
            )
        self.mlp = _Conditional(inputs, hidden, outputs, target)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, inputs) to (B, outputs)."""
        return self.mlp(x)


class _Layers(nn.Module):
    """The two layers; a leading part of the hidden units may be run alone."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(inputs, hidden), nn.Linear(hidden, outputs)

    def forward(self, x: Tensor, width: int | None = None, mask: Tensor | None = None) -> Tensor:
        h = F.relu(F.linear(x, self.first.weight[:width], self.first.bias[:width]))
        h = h if mask is None else h * mask
        return F.linear(h, self.second.weight[:, :width], self.second.bias)


class _Conditional(Gated):
    """The two layers with a gate for their width."""

    name = "width"
    shares_norms = False
    branches = True

    def __init__(self, inputs: int, hidden: int, outputs: int, target: float) -> None:
        block = _Layers(inputs, hidden, outputs)
        start = (*(0.0 for _ in SHARES[1:]), OPEN_BIAS)
        config = gate_around("ConditionalMLP", block, inputs, "width", target)
        super().__init__(config, start=start, features=_policy, block=block)
        self.widths = tuple(math.ceil(share * hidden) for share in SHARES)

    @classmethod
    def alternatives(cls, config: BlockConfig) -> tuple[str, ...]:
        return tuple(f"{share:g}" for share in SHARES)

    def choices(self) -> Tensor:
        return torch.eye(len(SHARES), dtype=torch.bool)

    def forward(self, x: Tensor | Flow, *, context: Context | None = None) -> Any:
        return super().forward(x, context=real_in_evaluation(self, context))

    def masked(self, x: Tensor, decision: Decision, counted: bool = False) -> Tensor:
        wider = decision.weights.flip(1).cumsum(1).flip(1)  # a part runs for each width that reaches so far
        parts = [self.widths[0], *(b - a for a, b in zip(self.widths, self.widths[1:], strict=False))]
        columns = [wider[:, at, None].expand(-1, part) for at, part in enumerate(parts) if part]
        return self.block(x, mask=torch.cat(columns, dim=1))

    def branch(self, x: Tensor, alternative: int) -> Tensor:
        return self.block(x, self.widths[alternative])


def _policy(inputs: int, start: Sequence[float], target: float) -> nn.Module:
    """Return a layer for the logits of the widths, which says at first what `start` does."""
    layer = nn.Linear(inputs, len(start))
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        layer.bias.copy_(torch.tensor(start))
    return layer
