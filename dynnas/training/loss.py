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


def sandwich(space: Space, randoms: int, seed: int, step: int) -> tuple[Architecture, ...]:
    """Largest, smallest and `randoms` random architectures (US-Nets, Yu 2019), without repeats; largest
    first.

    Derived from (seed, step) alone, so that an interrupted training, or another rank, draws the same.
    """
    rng = random.Random(f"sandwich {seed} {step}")
    drawn = (sample(space, rng) for _ in range(randoms))
    return tuple(dict.fromkeys((largest(space), smallest(space), *drawn)))


def distillation(logits: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """T^2 times the cross entropy to the teacher's softmax, both (B, classes) divided by the temperature T.

    For each image, (B,). Its gradient is that of T^2 KL(teacher, student) (Hinton 2015, section 2): T^2
    keeps it as large as the labels' at any temperature.
    """
    taught = (teacher / temperature).softmax(1) * (logits / temperature).log_softmax(1)
    return -(temperature**2) * taught.sum(1)


def teacher_loss(outputs: Sequence[Tensor], labels: Tensor, smoothing: float, exit_weight: float) -> Tensor:
    """The largest network: labels teach its final head, which teaches its exits. For each image, (B,).

    Args:
        outputs: logits (B, classes) of the exits, then of the final head.
        labels: (B,).
        smoothing: label smoothing (Szegedy 2016).
        exit_weight: weight of the mean loss of the exits.
    """
    *exits, final = outputs
    loss = F.cross_entropy(final, labels, label_smoothing=smoothing, reduction="none")
    return loss + exit_weight * _mean([distillation(logits, final.detach()) for logits in exits], loss)


def student_loss(
    outputs: Sequence[Tensor],
    teacher: Tensor,
    labels: Tensor,
    smoothing: float,
    teacher_weight: float,
    exit_weight: float,
    temperature: float = 1.0,
) -> Tensor:
    """Any other network: the largest network's final head and the labels teach its final head and its exits.

    For each image, (B,).

    Args:
        outputs: logits (B, classes) of the exits, then of the final head.
        teacher: logits (B, classes) of the largest network's final head.
        labels: (B,).
        smoothing: label smoothing.
        teacher_weight: between 0, labels alone, and 1, the teacher alone (US-Nets).
        exit_weight: weight of the mean loss of the exits.
        temperature: of the distillation.
    """

    def taught(logits: Tensor) -> Tensor:
        by_labels = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return teacher_weight * distillation(logits, teacher, temperature) + (1 - teacher_weight) * by_labels

    *exits, final = outputs
    loss = taught(final)
    return loss + exit_weight * _mean([taught(logits) for logits in exits], loss)


def take_gates(
    outputs: Sequence[Tensor], exits: Sequence[ExitPlace], labels: Tensor
) -> tuple[list[Tensor], Tensor]:
    """What learned criteria of exits lose, apart from the logits.

    Each gate learns to tell whether its exit is right about an image: cross entropy, the mean over the gates.
    It sees the logits detached, so that nothing else learns from this loss.

    Args:
        outputs: of the exits, then of the head, as `Network.logits` gives them.
        exits: of the network.
        labels: (B,).

    Returns:
        Logits (B, classes) of every exit and of the head, and the loss.
    """
    losses = []
    for output, place in zip(outputs, exits, strict=False):
        if place.criterion == "learned":
            right = answer(output, place.criterion).argmax(1) == labels
            losses.append(F.binary_cross_entropy_with_logits(output[:, -1], right.to(output.dtype)))
    return answers(outputs, exits), _mean(losses, outputs[-1].new_zeros(()))


def guess_loss(guesses: Sequence[Tensor], labels: Tensor) -> Tensor | float:
    """Of the classifiers that policy networks have while they train, logits (B, classes): cross entropy."""
    return sum((F.cross_entropy(logits.float(), labels) for logits in guesses), 0.0)


def _mean(losses: Sequence[Tensor], like: Tensor) -> Tensor:
    return torch.stack(list(losses)).mean(0) if losses else torch.zeros_like(like)
