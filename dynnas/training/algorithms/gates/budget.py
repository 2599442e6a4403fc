"""The budget of gates: one loss for all gates of a network, whatever they decide on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.gates.costs import GateCost
from dynnas.nn.gates.gate import Decision
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.distributed.ranks import Batch

BALANCE = 0.01
"""Weight of the squared variation of loads, as in the code of Shazeer et al. (2017, arXiv:1701.06538)."""


@register_algorithm("gate_budget")
@dataclass(eq=False)
class GateBudget(Algorithm):
    """The loss that keeps all gates of a network to their targets together: see `budget_loss`."""

    name = "gate_budget"
    records = (Decision,)

    weight: float = setting(10.0, "weight of the loss that keeps gates to their targets", minimum=0.0)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the loss, where there are gates."""
        decided = forward.trace.of(Decision)
        if not decided:
            return None
        bounds = bounds_at(run.step, run.total)
        return self.weight * budget_loss(forward.costs(), decided, bounds, run.batch)

    def image_penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return each image's part in it."""
        decided = forward.trace.of(Decision)
        if not decided:
            return None
        bounds = bounds_at(run.step, run.total)
        return self.weight * budget_shares(forward.costs(), decided, bounds, run.batch)


def budget_loss(
    costs: Sequence[GateCost], decisions: Sequence[Decision], bounds: float, batch: Batch
) -> Tensor:
    """Return ((E[MACs] / F0 - t)^2) + bounds of each block + the balance of loads (DynConv, section 3.3).

    E is the mean over the batch of what the gated blocks really cost, so that no product of average rates is
    taken for the network's; F0 is what they cost without gates, and t their targets' mean, weighted by cost.
    What a block uses may differ from its target by as much as the bounds allow (Verelst and Tuytelaars 2020,
    arXiv:1912.03203, equations 9 and 10): nothing at the beginning, so that no gate shuts for good before it
    has learned, and anything at the end. Of blocks in a run that images leave early, the first are used by
    all of them whatever the target, and are held to no upper bound.

    Args:
        costs: of the gated blocks. decisions: theirs on this rank's part of a batch, in the same order.
        bounds: 1 for the tightest, at the beginning of a training, to 0 for none: see `bounds_at`.
        batch: the whole of it.

    Returns:
        (), without the weight of the budget.
    """
    loss = _of_use(costs, decisions, batch.mean(_block_macs(costs, decisions)), bounds)
    for decision in decisions:
        if decision.loads is not None:
            loss = loss + BALANCE * squared_variation(batch.mean(decision.loads)).sum()
    return loss


@torch.no_grad()
def budget_shares(
    costs: Sequence[GateCost], decisions: Sequence[Decision], bounds: float, batch: Batch
) -> Tensor:
    """Return each image's part in the budget's loss, by its decisions, times the number of images: (B,).

    Against the batch without the image. Unlike the image's part of the loss's first-order change, this is
    right for a loss that is not linear.
    """
    own = _block_macs(costs, decisions)
    mean = batch.mean(own)
    others = (batch.images * mean - own) / max(1, batch.images - 1)
    return batch.images * (
        _of_use(costs, decisions, mean, bounds) - _of_use(costs, decisions, others, bounds)
    )


def _block_macs(costs: Sequence[GateCost], decisions: Sequence[Decision]) -> Tensor:
    """Return multiply-adds of each image in each gated block: (B, blocks)."""
    macs = [cost.image_macs(decision.usage) for cost, decision in zip(costs, decisions, strict=True)]
    return torch.stack(macs, dim=1)


def _of_use(costs: Sequence[GateCost], decisions: Sequence[Decision], macs: Tensor, bounds: float) -> Tensor:
    """Return the loss of mean multiply-adds (..., blocks): (...)."""
    full = macs.new_tensor([float(cost.full) for cost in costs])
    targets = macs.new_tensor([cost.target for cost in costs])
    used, most, least = macs / full, 1 - bounds * (1 - targets), bounds * targets
    capped = macs.new_tensor([float(not decision.in_a_run) for decision in decisions])
    beyond = capped * torch.relu(used - most).square() + torch.relu(least - used).square()
    total = (macs.sum(-1) - targets @ full) / full.sum()
    return total.square() + beyond.mean(-1)


def squared_variation(values: Tensor) -> Tensor:
    """Return the squared coefficient of variation of (..., E): (...)."""
    return values.var(-1, correction=0) / values.mean(-1).square()


def bounds_at(step: int, total: int) -> float:
    """Return a weight that falls from 1 to 0 by a squared cosine, as in the authors' code."""
    return math.cos(math.pi / 2 * min(1.0, step / total)) ** 2
