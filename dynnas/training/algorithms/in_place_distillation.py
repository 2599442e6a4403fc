"""Distillation in place: the largest network of a step teaches the others."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("in_place_distillation")
@dataclass(eq=False)
class InPlaceDistillation(Algorithm):
    """The first network of a step learns from targets, and its last output teaches the others'.

    As in US-Nets (Yu and Huang 2019, arXiv:1903.05134, section 3.3), where the others learn from it alone.
    """

    name = "in_place_distillation"

    weight: float = setting(
        0.5, "how much the largest network teaches the others; targets do the rest", minimum=0.0, maximum=1.0
    )
    temperature: float = setting(1.0, "of the distillation", minimum=0.1)

    def output_loss(self, run: Run, forward: Forward, output: Tensor, loss: Tensor) -> Tensor:
        """Mix the loss against the teacher's output with the loss (B,) so far, once there is a teacher."""
        if run.teacher is None or not self.weight:
            return loss
        return (
            self.weight * run.task.distill(output, run.teacher, self.temperature) + (1 - self.weight) * loss
        )

    def after_loss(self, run: Run, forward: Forward) -> None:
        """Make the first network of a step the teacher."""
        if run.teacher is None or not self.weight:
            run.teacher = forward.output.detach()
