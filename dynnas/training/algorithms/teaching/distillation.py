"""Distillation from other networks, which are trained already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.models import model_of
from dynnas.training.teacher import TeacherOutputs


@register_algorithm("distillation")
@dataclass(eq=False)
class Distillation(Algorithm):
    """Finished networks teach by their last outputs (Hinton et al. 2015, arXiv:1503.02531).

    Of several teachers the mean of their losses counts, which for classes is the loss against their mean
    probabilities (You et al. 2017, doi:10.1145/3097983.3098135, equation 2). The temperature may move while
    the training goes on, as in annealed distillation (Jafari et al. 2021, arXiv:2104.07163).

    Args:
        teacher: in evaluation mode, with batch-norm statistics, or several; None teaches nothing.
        cache: whether what they say of images that are not varied is kept, here and in the checkpoint.
    """

    name = "distillation"

    weight: float = setting(
        0.5, "how much the teacher teaches; targets do the rest", minimum=0.0, maximum=1.0
    )
    temperature: float = setting(2.0, "of the distillation", minimum=0.1)
    teacher: nn.Module | Sequence[nn.Module] | None = None
    last_temperature: float = setting(
        0.0, "temperature at the end, reached by equal steps; 0 for the same all the time", minimum=0.0
    )
    cache: bool = False

    def on_start(self, run: Run) -> None:
        """Put the teachers beside the model."""
        device = next(run.module.parameters()).device
        self._models = [model_of(teacher.to(device).eval()) for teacher in teachers_of(self.teacher)]
        self._outputs: list[Tensor] = []
        self._kept = [TeacherOutputs() for _ in self._models]

    @torch.no_grad()
    def before_loss(self, run: Run, forward: Forward) -> None:
        """Ask the teachers about the step's inputs."""
        if run.teacher is None:
            self._outputs = [
                kept.of(run, partial(run.last_output, model), self.cache)
                for model, kept in zip(self._models, self._kept, strict=True)
            ]
            run.teacher = self._outputs[0] if self._outputs else None

    def output_loss(self, run: Run, forward: Forward, output: Tensor, loss: Tensor) -> Tensor:
        """Mix the loss against the teachers' outputs with the loss (B,) so far."""
        if run.teacher is None or not self.weight:
            return loss
        temperature = self.temperature_at(run)
        taught = [run.task.distill(output, said, temperature) for said in self._outputs or [run.teacher]]
        return self.weight * torch.stack(taught).mean(0) + (1 - self.weight) * loss

    def state_dict(self) -> dict[str, Any]:
        """Return the outputs that are kept."""
        return {"kept": [each.state_dict() for each in self._kept]} if self.cache else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with outputs that were kept."""
        for each, kept in zip(self._kept, state.get("kept", []), strict=False):
            each.load_state_dict(kept)

    def temperature_at(self, run: Run) -> float:
        """Return the temperature of the current step."""
        last = self.last_temperature or self.temperature
        return self.temperature + (last - self.temperature) * run.step / max(1, run.total - 1)


def teachers_of(teacher: nn.Module | Sequence[nn.Module] | None) -> list[nn.Module]:
    """Return one teacher, several, or none as a list."""
    if teacher is None:
        return []
    return [teacher] if isinstance(teacher, nn.Module) else list(teacher)
