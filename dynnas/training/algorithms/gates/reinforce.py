"""REINFORCE for gates: they learn from the outcome of their draws, where no gradient passes a decision.

REINFORCE (Williams 1992, doi:10.1007/BF00992696), as SkipNet has it in its second stage (Wang et al. 2018,
arXiv:1711.09485, section 3.3): the gradient of the mean over decisions a of a loss l(a) is that of

    l(a) + (l(a) - b) log p(a)

in which the second factor counts as a constant, in the mean over draws: for any b that does not depend on a.
The first term teaches what is run, the second what decides. In SkipNet b is 0, and a gate is told only of
the cost of its own block and later ones; here the budget is that of all blocks and of the whole batch, and
each image is told what it adds to that.

Images count as apart, though in training they meet in batch norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.gates.gate import Decision
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm
from dynnas.training.distributed.ranks import Batch


@register_algorithm("reinforce")
@dataclass(eq=False)
class Reinforce(Algorithm):
    """Gates whose estimator is `reinforce` learn from their images' losses and penalties."""

    name = "reinforce"
    records = (Decision,)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return a loss of value 0 with their gradient; None where no gate draws."""
        decided = forward.trace.of(Decision)
        if all(decision.likelihood is None for decision in decided):
            return None
        found = (algorithm.image_penalty(run, forward) for algorithm in run.algorithms)
        shares = sum((each for each in found if each is not None), forward.losses.new_zeros(()))
        return reinforce(decided, forward.losses, shares, run.batch)


def reinforce(decisions: Sequence[Decision], losses: Tensor, shares: Tensor, batch: Batch) -> Tensor:
    """Return the policy gradient of the gates' draws, as that of a loss () whose value is 0.

    Args:
        decisions: of all gates on this rank's part of a batch; of some at least with a likelihood.
        losses: of the task, (B,). The mean of the other images' is what an image's is held against.
        shares: what each image's decisions add to the rest of the loss, (B,): that is a difference already.
        batch: the whole of it.
    """
    drawn = [decision.likelihood for decision in decisions if decision.likelihood is not None]
    others = (batch.images * batch.mean(losses.detach()) - losses.detach()) / max(1, batch.images - 1)
    worse = losses.detach() - others + shares.detach()
    loss = (worse * torch.stack(drawn).sum(0)).mean()
    return loss - loss.detach()
