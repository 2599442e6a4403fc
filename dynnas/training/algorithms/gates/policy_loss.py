"""The loss of a policy network's own classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.gates.policy import PolicyLogits
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm


@register_algorithm("policy_loss")
@dataclass(eq=False)
class PolicyLoss(Algorithm):
    """The embedding for gates learns to tell images apart (DeepMoE: Wang et al. 2019, arXiv:1806.01531).

    The task's loss of the policy network's classifier, which is there while it trains (section 3.3).
    """

    name = "policy_loss"
    records = (PolicyLogits,)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the mean loss over the images."""
        said = forward.trace.of(PolicyLogits)
        loss = run.loss_of(run.task)
        losses = [loss(each.logits.float(), run.targets).mean() for each in said]
        return torch.stack(losses).sum() if losses else None
