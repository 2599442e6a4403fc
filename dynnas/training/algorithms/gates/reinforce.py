"""REINFORCE for gates: they learn from the outcome of their draws, where no gradient passes a decision.

REINFORCE (Williams 1992, doi:10.1007/BF00992696), as SkipNet has it in its second stage (Wang et al. 2018,
arXiv:1711.09485, section 3.3): the gradient of the mean over decisions a of a loss l(a) is that of

    l(a) + (l(a) - b) log p(a)

in which the second factor counts as a constant, in the mean over draws: for any b that does not depend on a.
The first term teaches what is run, the second what decides. In SkipNet b is 0, and a gate is told only of
the cost of its own block and later ones; here the budget is that of all blocks and of the whole batch, and
each image is told what it adds to that. Baselines b: the mean loss of the batch's other images; its moving
average over steps (Williams, section 4); the image's own loss with every gate's likeliest decision, as in
BlockDrop (Wu et al. 2018, arXiv:1711.08393, section 3: self-critical); or 0.

Images count as apart, though in training they meet in batch norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.distributed.ranks import Batch

MOMENTUM = 0.9
"""Share of the old value in each step of the moving average."""


@register_algorithm("reinforce")
@dataclass(eq=False)
class Reinforce(Algorithm):
    """Gates whose estimator is `reinforce` learn from their images' losses and penalties."""

    name = "reinforce"
    records = (Decision,)

    baseline: str = setting(
        "others",
        "what an image's loss is held against: the other images' mean, its moving average, the image's loss "
        "with likeliest decisions (greedy, one more forward pass), or nothing",
        choices=("others", "moving", "greedy", "none"),
    )

    def on_start(self, run: Run) -> None:
        """Begin without an average."""
        self._mean: float | None = None
        self._seen: list[float] = []

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return a loss of value 0 with their gradient; None where no gate draws."""
        decided = forward.trace.of(Decision)
        if all(decision.likelihood is None for decision in decided):
            return None
        found = (algorithm.image_penalty(run, forward) for algorithm in run.algorithms)
        shares = sum((each for each in found if each is not None), forward.losses.new_zeros(()))
        return reinforce(decided, forward.losses, shares, run.batch, self._baseline(run, forward))

    def _baseline(self, run: Run, forward: Forward) -> Tensor | None:
        """Return what the losses are held against, (B,), or None for the mean of the other images."""
        losses = forward.losses.detach()
        if self.baseline == "moving":
            mean = float(run.batch.mean(losses))
            self._seen.append(mean)
            return torch.full_like(losses, mean if self._mean is None else self._mean)
        if self.baseline == "greedy":
            likeliest = run.context.replace(replace(run.context[GateMode], estimator="straight", noise=0.0))
            with torch.no_grad():
                return run.loss_of(run.task)(forward.again(likeliest)[-1], run.targets)
        return torch.zeros_like(losses) if self.baseline == "none" else None

    def on_step(self, run: Run) -> None:
        """Move the average."""
        if self._seen:
            mean = sum(self._seen) / len(self._seen)
            self._mean = mean if self._mean is None else MOMENTUM * self._mean + (1 - MOMENTUM) * mean
        self._seen = []

    def state_dict(self) -> dict[str, Any]:
        """Return the moving average."""
        return {"mean": self._mean}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with another average."""
        self._mean = state["mean"]


def reinforce(
    decisions: Sequence[Decision],
    losses: Tensor,
    shares: Tensor,
    batch: Batch,
    baseline: Tensor | None = None,
) -> Tensor:
    """Return the policy gradient of the gates' draws, as that of a loss () whose value is 0.

    Args:
        decisions: of all gates on this rank's part of a batch; of some at least with a likelihood.
        losses: of the task, (B,).
        shares: what each image's decisions add to the rest of the loss, (B,): that is a difference already.
        batch: the whole of it.
        baseline: what the losses are held against, (B,); None for the mean loss of the other images.
    """
    drawn = [decision.likelihood for decision in decisions if decision.likelihood is not None]
    if baseline is None:
        baseline = (batch.images * batch.mean(losses.detach()) - losses.detach()) / max(1, batch.images - 1)
    worse = losses.detach() - baseline + shares.detach()
    loss = (worse * torch.stack(drawn).sum(0)).mean()
    return loss - loss.detach()
