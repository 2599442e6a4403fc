"""The network that a space was made of teaches all members of the space."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from dynnas.supernet.conversion.network import TrainedNetwork
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting
from dynnas.training.models import Model, model_of
from dynnas.training.teacher import TeacherOutputs


@register_algorithm("trained_teacher")
@dataclass(eq=False)
class TrainedTeacher(Algorithm):
    """The trained network of `dynnas.elastic` is the teacher, in the place of the step's largest network.

    How much it teaches is the weight of `in_place_distillation`. Where its head was replaced, and in any
    other space, the largest network teaches.
    """

    name = "trained_teacher"

    cache: bool = setting(
        False, "keep what it says of images that are not varied, in memory and in the checkpoint"
    )

    def on_start(self, run: Run) -> None:
        """Put the trained network beside the model."""
        made = run.model.space.model if run.model.space is not None else None
        self._model: Model | None = None
        self._kept = TeacherOutputs()
        if isinstance(made, TrainedNetwork) and made.teaches:
            device = next(run.module.parameters()).device
            self._model = model_of(copy.deepcopy(made.network).to(device).eval())

    @torch.no_grad()
    def before_loss(self, run: Run, forward: Forward) -> None:
        """Ask the trained network about the step's inputs."""
        if self._model is not None and run.teacher is None:
            run.teacher = self._kept.of(run, partial(run.last_output, self._model), self.cache)

    def state_dict(self) -> dict[str, Any]:
        """Return the outputs that are kept."""
        return self._kept.state_dict() if self.cache else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with outputs that were kept."""
        self._kept.load_state_dict(state)
