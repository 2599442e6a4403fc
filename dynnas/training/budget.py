"""What gates may use: one loss for all gates of a network, whatever they decide on."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from dynnas.ops import Decision
from dynnas.ops.gate_costs import GateCost, total_macs

Average = Callable[[Tensor], Tensor]
"""From the mean over this process's images to the mean over all of the batch, with the former's gradient."""


def budget_loss(
    costs: Sequence[GateCost], decisions: Sequence[Decision], bounds: float, average: Average
) -> Tensor:
    """((E[MACs] / F0 - t)^2) + bounds of each block + the gates' own penalties (DynConv, section 3.3).

    E is the mean over the batch of what the gated blocks really cost, so that no product of average rates is
    taken for the network's; F0 is what they cost without gates, and t their targets' mean, weighted by cost.
    What a block uses may differ from its target by as much as the bounds allow (Verelst and Tuytelaars 2020,
    arXiv:1912.03203, equations 9 and 10): nothing at the beginning, so that no gate shuts for good before it
    has learned, and anything at the end. Of blocks in a run that images leave early, the first are used by
    all of them whatever the target, and are held to no upper bound.

    Args:
        costs: of the gated blocks. decisions: theirs on one batch, in the same order.
        bounds: 1 for the tightest, at the beginning of a training, to 0 for none: see `bounds_at`.
        average: over the processes that train together.

    Returns:
        (), without the weight of the budget.
    """
    full = sum(cost.full for cost in costs)
    target = sum(cost.target * cost.full for cost in costs) / full
    loss = (average(total_macs(costs, decisions).mean()) / full - target).square()
    for cost, decision in zip(costs, decisions, strict=True):
        used = average(cost.image_macs(decision.usage).mean()) / cost.full
        most, least = 1 - bounds * (1 - cost.target), bounds * cost.target
        beyond = torch.relu(least - used).square()
        if not decision.in_a_run:
            beyond = beyond + torch.relu(used - most).square()
        loss = loss + beyond / len(costs)
        if decision.penalty is not None:
            loss = loss + average(decision.penalty)
    return loss


def bounds_at(step: int, total: int) -> float:
    """From 1 to 0 by a squared cosine over the training, as in the authors' code."""
    return math.cos(math.pi / 2 * min(1.0, step / total)) ** 2
