"""The loss of one training step: sandwich rule, in-place distillation, exits taught by the final head."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.space import Architecture, Space, largest, sample, smallest


def sandwich(space: Space, randoms: int, seed: int, step: int) -> tuple[Architecture, ...]:
    """Largest, smallest and `randoms` random architectures (US-Nets, Yu 2019), without repeats; largest
    first.

    Derived from (seed, step) alone, so that an interrupted training, or another rank, draws the same.
    """
    rng = random.Random(f"sandwich {seed} {step}")
    drawn = (sample(space, rng) for _ in range(randoms))
    return tuple(dict.fromkeys((largest(space), smallest(space), *drawn)))


def distillation(logits: Tensor, teacher: Tensor) -> Tensor:
    """Cross entropy to the teacher's softmax at temperature 1, mean over the batch; both [B, classes]."""
    return -(teacher.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def teacher_loss(outputs: Sequence[Tensor], labels: Tensor, smoothing: float, exit_weight: float) -> Tensor:
    """The largest network: labels teach its final head, which teaches its exits."""
    *exits, final = outputs
    loss = F.cross_entropy(final, labels, label_smoothing=smoothing)
    return loss + exit_weight * _mean([distillation(logits, final.detach()) for logits in exits], final)


def student_loss(outputs: Sequence[Tensor], teacher: Tensor, exit_weight: float) -> Tensor:
    """Any other network: the largest network's final head teaches its final head and its exits."""
    *exits, final = outputs
    loss = distillation(final, teacher)
    return loss + exit_weight * _mean([distillation(logits, teacher) for logits in exits], final)


def _mean(losses: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(losses)).mean() if losses else like.new_zeros(())
