"""ManiDP: the easier an image is, the less it is to use (Tang et al. 2021, arXiv:2103.05861, section 3.2).

An image whose loss L is below a threshold C, half of the mean one, pays (C - L) / C for what it
uses; a harder one pays nothing. In the paper it pays for the sum of its channels' saliencies, which decides
how many it keeps; here for its share of multiply-adds, so that gates of all kinds learn it by which images
differ in what they use. The mean is that of the batch; in the authors' code, of the epoch before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.gates.costs import GateCost, total_macs
from dynnas.nn.gates.gate import Decision
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.distributed.ranks import Batch

EASY = 0.5
"""Share of the mean loss below which an image is easy, as in the authors' code."""


@register_algorithm("gate_sparsity")
@dataclass(eq=False)
class GateSparsity(Algorithm):
    """Easy images pay for what they use of gated blocks."""

    name = "gate_sparsity"
    records = (Decision,)

    weight: float = setting(
        1.0,
        "what an image pays for all of the gated blocks if it is as easy as can be; hard ones pay nothing",
        minimum=0.0,
    )

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the mean price of the images."""
        paid = self._paid(run, forward)
        return None if paid is None else paid.mean()

    def image_penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the price of each image."""
        paid = self._paid(run, forward)
        return None if paid is None else paid.detach()

    def _paid(self, run: Run, forward: Forward) -> Tensor | None:
        decided = forward.trace.of(Decision)
        if not decided or not self.weight:
            return None
        with torch.no_grad():
            losses = run.loss_of(run.task)(forward.output, run.targets)
        return self.weight * use_of_easy(forward.costs(), decided, easiness(losses, run.batch))


@torch.no_grad()
def easiness(losses: Tensor, batch: Batch) -> Tensor:
    """Return the easiness max(0, (C - L) / C), from 0 for hard images to 1: (B,).

    Args:
        losses: of the task for each image of this rank's part, (B,). batch: the whole of it.
    """
    return torch.relu(1 - losses / (EASY * batch.mean(losses)).clamp(min=1e-9))


def use_of_easy(costs: Sequence[GateCost], decisions: Sequence[Decision], easy: Tensor) -> Tensor:
    """Return each image's use of its gated blocks, from 0 to about 1, times its easiness: (B,)."""
    return easy * total_macs(costs, decisions) / sum(cost.full for cost in costs)
