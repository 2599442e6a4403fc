"""The ranking of exits: a later one is to be better than the one before it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("exit_ranking")
@dataclass(eq=False)
class ExitRanking(Algorithm):
    """An exit that is less sure of what is right than the one before it pays for it.

    The pairwise ranking loss of RA-CNN (Fu et al. 2017, CVPR, equation 9): max(0, p_s - p_s+1 + margin) for
    the probabilities p_s = exp(-loss) of the target at scale s, summed over scales. It makes
    `dynnas.nn.RecurrentAttention` look where the next look is better. It does nothing where there are no
    exits.
    """

    name = "exit_ranking"

    weight: float = setting(1.0, "of the loss", minimum=0.0)
    margin: float = setting(0.05, "by how much a later exit is to be better", minimum=0.0, maximum=1.0)

    def loss(self, run: Run, forward: Forward, loss: Tensor) -> Tensor:
        """Add the loss (B,) of all pairs of neighbouring exits."""
        if len(forward.outputs) < 2 or not self.weight:
            return loss
        by_targets = run.loss_of(run.task)
        sure = [(-by_targets(output, run.targets)).exp() for output in forward.outputs]
        pairs = itertools.pairwise(sure)
        paid = [(one - other + self.margin).clamp(min=0) for one, other in pairs]
        return loss + self.weight * torch.stack(paid).sum(0)
