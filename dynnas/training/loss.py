"""The loss of one training step: sandwich rule, in-place distillation, exits taught by the final head."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.exits import answer, answers
from dynnas.space.architecture import Architecture
from dynnas.space.config.network import ExitPlace
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space
from dynnas.tasks.task import Task


def sandwich(space: Space, randoms: int, seed: int, step: int) -> tuple[Architecture, ...]:
    """Largest, smallest and `randoms` random architectures (US-Nets, Yu 2019), without repeats; largest
    first.

    Derived from (seed, step) alone, so that an interrupted training, or another rank, draws the same.
    """
    rng = random.Random(f"sandwich {seed} {step}")
    drawn = (sample(space, rng) for _ in range(randoms))
    return tuple(dict.fromkeys((largest(space), smallest(space), *drawn)))


def teacher_loss(outputs: Sequence[Tensor], targets: Tensor, task: Task, exit_weight: float) -> Tensor:
    """The largest network: targets teach its final head, which teaches its exits. For each image, (B,).

    Args:
        outputs: of the exits, then of the final head, (B, ...) each.
        targets: (B, ...).
        exit_weight: weight of the mean loss of the exits.
    """
    *exits, final = outputs
    loss = task.loss(final, targets)
    return loss + exit_weight * _mean([task.distill(output, final.detach()) for output in exits], loss)


def student_loss(
    outputs: Sequence[Tensor],
    teacher: Tensor,
    targets: Tensor,
    task: Task,
    teacher_weight: float,
    exit_weight: float,
    temperature: float = 1.0,
) -> Tensor:
    """Any other network: the largest network's final head and the targets teach its head and its exits.

    For each image, (B,).

    Args:
        outputs: of the exits, then of the final head, (B, ...) each.
        teacher: output (B, ...) of the largest network's final head.
        targets: (B, ...).
        teacher_weight: between 0, targets alone, and 1, the teacher alone (US-Nets).
        exit_weight: weight of the mean loss of the exits.
        temperature: of the distillation.
    """

    def taught(output: Tensor) -> Tensor:
        by_targets = task.loss(output, targets)
        if not teacher_weight:
            return by_targets
        by_teacher = task.distill(output, teacher, temperature)
        return teacher_weight * by_teacher + (1 - teacher_weight) * by_targets

    *exits, final = outputs
    loss = taught(final)
    return loss + exit_weight * _mean([taught(output) for output in exits], loss)


def take_gates(
    outputs: Sequence[Tensor], exits: Sequence[ExitPlace], targets: Tensor, task: Task
) -> tuple[list[Tensor], Tensor]:
    """What learned criteria of exits lose, apart from the outputs.

    Each gate learns to tell how good its exit's answer for an image is: cross entropy, the mean over the
    gates. It sees the output detached, so that nothing else learns from this loss.

    Args:
        outputs: of the exits, then of the head, as `Network.logits` gives them.
        exits: of the network.
        targets: (B, ...).

    Returns:
        Outputs (B, ...) of every exit and of the head, and the loss.
    """
    losses = []
    for output, place in zip(outputs, exits, strict=False):
        if place.criterion == "learned":
            good = task.quality(answer(output, place.criterion), targets)
            losses.append(F.binary_cross_entropy_with_logits(output[:, -1], good.to(output.dtype)))
    return answers(outputs, exits), _mean(losses, outputs[-1].new_zeros(()))


def guess_loss(guesses: Sequence[Tensor], targets: Tensor, task: Task) -> Tensor | float:
    """Of what policy networks say of the task while they train, outputs (B, ...): its loss."""
    return sum((task.loss(output.float(), targets).mean() for output in guesses), 0.0)


def _mean(losses: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(losses)).mean(0) if losses else torch.zeros_like(like)
