"""Distillation from another network, which is trained already."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynnas.nn.context import PLAIN
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.models import model_of


@register_algorithm("distillation")
@dataclass(eq=False)
class Distillation(Algorithm):
    """A finished network teaches by its last output (Hinton et al. 2015, arXiv:1503.02531).

    Args:
        teacher: in evaluation mode, with batch-norm statistics; None teaches nothing.
    """

    name = "distillation"

    weight: float = setting(
        0.5, "how much the teacher teaches; targets do the rest", minimum=0.0, maximum=1.0
    )
    temperature: float = setting(2.0, "of the distillation", minimum=0.1)
    teacher: nn.Module | None = None

    def on_start(self, run: Run) -> None:
        """Put the teacher beside the model."""
        device = next(run.module.parameters()).device
        self._model = model_of(self.teacher.to(device).eval()) if self.teacher else None

    @torch.no_grad()
    def before_loss(self, run: Run, forward: Forward) -> None:
        """Ask the teacher about the step's inputs."""
        if self._model is not None and run.teacher is None:
            run.teacher = run.outputs(self._model, None, PLAIN)[-1]

    def output_loss(self, run: Run, forward: Forward, output: Tensor, loss: Tensor) -> Tensor:
        """Mix the loss against the teacher's output with the loss (B,) so far."""
        if run.teacher is None or not self.weight:
            return loss
        return (
            self.weight * run.task.distill(output, run.teacher, self.temperature) + (1 - self.weight) * loss
        )
