"""Distillation in place: the largest network of a step teaches the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.space.moves import largest
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("in_place_distillation")
@dataclass(eq=False)
class InPlaceDistillation(Algorithm):
    """The first network of a step learns from targets, and its last output teaches the others'.

    As in US-Nets (Yu and Huang 2019, arXiv:1903.05134, section 3.3), where the others learn from it alone. In
    a step without a network that teaches, the largest is asked without being trained. With the divergence
    `alpha` they learn as in AlphaNet (Wang et al. 2021, arXiv:2102.07954), by the larger of two divergences.
    """

    name = "in_place_distillation"

    weight: float = setting(
        0.5, "how much the largest network teaches the others; targets do the rest", minimum=0.0, maximum=1.0
    )
    temperature: float = setting(1.0, "of the distillation", minimum=0.1)
    divergence: str = setting(
        "kl",
        "what is small where a network says what its teacher says: kl, or alpha for AlphaNet's",
        choices=("kl", "alpha"),
    )
    alpha_low: float = setting(-1.0, "the first alpha of AlphaNet", minimum=-4.0, maximum=4.0)
    alpha_high: float = setting(1.0, "the second alpha of AlphaNet", minimum=-4.0, maximum=4.0)
    alpha_clip: float = setting(5.0, "largest importance weight of AlphaNet", minimum=1.0)

    @torch.no_grad()
    def before_loss(self, run: Run, forward: Forward) -> None:
        """Ask the largest network where no network of the step teaches."""
        asked = run.model.space is not None and not forward.network.teaches
        if run.teacher is None and self.weight and asked:
            assert run.model.space is not None
            run.teacher = run.outputs(run.model, largest(run.model.space), run.context, True)[-1]

    def output_loss(self, run: Run, forward: Forward, output: Tensor, loss: Tensor) -> Tensor:
        """Mix the loss against the teacher's output with the loss (B,) so far, once there is a teacher."""
        if run.teacher is None or not self.weight:
            return loss
        return self.weight * self._taught(run, output, run.teacher) + (1 - self.weight) * loss

    def _taught(self, run: Run, output: Tensor, teacher: Tensor) -> Tensor:
        if self.divergence == "kl":
            return run.task.distill(output, teacher, self.temperature)
        alphas = (self.alpha_low, self.alpha_high)
        return run.task.distill_alpha(output, teacher, self.temperature, alphas=alphas, clip=self.alpha_clip)

    def after_loss(self, run: Run, forward: Forward) -> None:
        """Make the first network of a step the teacher."""
        if run.teacher is None or not self.weight:
            run.teacher = forward.output.detach()
