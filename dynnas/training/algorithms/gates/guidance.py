"""Guidance of gates by easy images, as in DS-Net (Li et al. 2021, arXiv:2103.13258).

Sandwich gate sparsification (SGS): an image that the network is right about with every gate at its cheapest
is easy, and every gate is taught to give it the cheapest alternative; any other is hard, and is to have all
of every block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting

RIGHT = 0.5
"""Minimum quality of an answer that counts as right."""


@register_algorithm("gate_guidance")
@dataclass(eq=False)
class GateGuidance(Algorithm):
    """Gates are taught which images are easy."""

    name = "gate_guidance"
    records = (Decision,)

    weight: float = setting(
        1.0,
        "weight of the loss that teaches gates which images are easy: those that the network is right about "
        "with every gate at its cheapest",
        minimum=0.0,
    )

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the loss, where there are gates."""
        decided = forward.trace.of(Decision)
        if not decided or not self.weight:
            return None
        return self.weight * guidance_loss(decided, easy_images(run, forward))


@torch.no_grad()
def easy_images(run: Run, forward: Forward) -> Tensor:
    """Return which images the network is right about with its gates at their cheapest: (B,) bool."""
    cheapest = run.context.replace(replace(run.context[GateMode], choice="cheapest"))
    return run.task.quality(forward.again(cheapest)[-1], run.targets) >= RIGHT


def guidance_loss(decisions: Sequence[Decision], easy: Tensor) -> Tensor:
    """Return the cross entropy of the gates' logits to cheapest or all, as a mean over images and gates: ().

    Of gates that have a logit for each alternative: others are not taught.

    Args:
        decisions: of all gates. easy: (B,) bool.
    """
    losses = [
        F.cross_entropy(logits, torch.where(easy, 0, logits.shape[1] - 1))
        for decision in decisions
        if (logits := decision.logits) is not None
    ]
    return torch.stack(losses).mean() if losses else torch.zeros((), device=easy.device)
