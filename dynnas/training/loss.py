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
    """The largest network: labels teach its final head, which teaches its exits.

    Args:
        outputs: logits (B, classes) of the exits, then of the final head.
        labels: (B,).
        smoothing: label smoothing (Szegedy 2016).
        exit_weight: weight of the mean loss of the exits.
    """
    *exits, final = outputs
    loss = F.cross_entropy(final, labels, label_smoothing=smoothing)
    return loss + exit_weight * _mean([distillation(logits, final.detach()) for logits in exits], final)


def student_loss(
    outputs: Sequence[Tensor],
    teacher: Tensor,
    labels: Tensor,
    smoothing: float,
    teacher_weight: float,
    exit_weight: float,
) -> Tensor:
    """Any other network: the largest network's final head and the labels teach its final head and its exits.

    Args:
        outputs: logits (B, classes) of the exits, then of the final head.
        teacher: logits (B, classes) of the largest network's final head.
        labels: (B,).
        smoothing: label smoothing.
        teacher_weight: between 0, labels alone, and 1, the teacher alone (US-Nets).
        exit_weight: weight of the mean loss of the exits.
    """

    def taught(logits: Tensor) -> Tensor:
        by_labels = F.cross_entropy(logits, labels, label_smoothing=smoothing)
        return teacher_weight * distillation(logits, teacher) + (1 - teacher_weight) * by_labels

    *exits, final = outputs
    return taught(final) + exit_weight * _mean([taught(logits) for logits in exits], final)


def _mean(losses: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(losses)).mean() if losses else like.new_zeros(())
