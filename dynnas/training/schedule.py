"""Optimizers and learning rates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import nn

from dynnas.errors import TrainingError
from dynnas.settings.settings import TrainSettings


class Schedule(Protocol):
    """The learning rate over a training."""

    def __call__(self, peak: float, step: int, total: int, steps_per_epoch: int) -> float:
        """Return the learning rate of a step, for a parameter group with the rate `peak`."""
        ...


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then half a cosine to 0 at the end of the training.

    Attributes:
        warmup_epochs: of the warm-up; at most half of the training.
    """

    warmup_epochs: float = 0.0

    def __call__(self, peak: float, step: int, total: int, steps_per_epoch: int) -> float:
        """See `Schedule`."""
        warmup = min(self.warmup_epochs * steps_per_epoch, total / 2)
        if step < warmup:
            return peak * (step + 1) / (warmup + 1)
        return peak * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def constant(peak: float, step: int, total: int, steps_per_epoch: int) -> float:
    """Return a `Schedule` that leaves the learning rate as it was given."""
    return peak


def steps_of(batches: int, accumulate: int) -> int:
    """Return the steps of an epoch with this number of batches.

    Raises:
        TrainingError: an epoch has too few batches for one step.
    """
    if batches < accumulate:
        raise TrainingError(
            f"training: a step takes {accumulate} batches and an epoch has {batches}; lower train.accumulate "
            "or train.batch"
        )
    return batches // accumulate


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Return groups for an optimizer: with weight decay, and without for biases and tensors of one axis."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in module.named_parameters():
        spared = parameter.ndim <= 1 or name.endswith("bias")
        groups[spared]["params"].append(parameter)
    return groups


def make_optimizer(module: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """Return the optimizer that settings name, with the groups of `parameter_groups`."""
    groups, lr, momentum = parameter_groups(module, settings.weight_decay), settings.lr, settings.momentum
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=lr, betas=(momentum, 0.999))
    if settings.optimizer == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, momentum=momentum)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
