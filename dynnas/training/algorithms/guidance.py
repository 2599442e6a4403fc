"""DS-Net's answer to a gate that says the same of every image (Li et al. 2021, arXiv:2103.13258).

Sandwich gate sparsification (SGS): an image that the network is right about with every gate at its cheapest
is easy, and every gate is taught to give it the cheapest alternative; any other is hard, and is to have all
of every block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.gates.gate import Decision

RIGHT = 0.5
"""The quality from which on an answer counts as right."""


@torch.no_grad()
def easy_images(run: Callable[[], Tensor]) -> Tensor:
    """Which images the network is right about with its gates at their cheapest: (B,) bool.

    Args:
        run: runs the network on the images with the cheapest choices, and gives how good its answers are,
            from 0 to 1 (right): (B,).
    """
    return run() >= RIGHT


def guidance_loss(decisions: Sequence[Decision], easy: Tensor) -> Tensor:
    """Cross entropy of the gates' logits to cheapest or all, the mean over images and gates: ().

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
