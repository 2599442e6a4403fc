"""The losses of early exits, and of their learned confidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.exits.exits import Leaving, answer
from dynnas.tasks.task import Task
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("early_exits")
@dataclass(eq=False)
class EarlyExits(Algorithm):
    """The mean loss of a network's exits is added to that of its last output.

    Exits of a network that has a teacher learn as its last output does; those of one that has none learn from
    its own last output (as in be your own teacher: Zhang et al. 2019, arXiv:1905.08094).
    """

    name = "early_exits"

    weight: float = setting(0.5, "weight of the exits' mean loss beside that of the last output", minimum=0.0)

    def loss(self, run: Run, forward: Forward, loss: Tensor) -> Tensor:
        """Return the losses (B,) of all outputs."""
        *exits, last = forward.outputs
        if not exits:
            return loss
        if run.teacher is not None:
            each = [run.output_loss(forward, output) for output in exits]
        else:
            each = [run.task.distill(output, last.detach()) for output in exits]
        return loss + self.weight * torch.stack(each).mean(0)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the loss of the exits' learned criteria."""
        return criterion_loss(run.task, forward.raw, forward.exits, run.targets)


def criterion_loss(
    task: Task, outputs: Sequence[Tensor], exits: Sequence[Leaving], targets: Any
) -> Tensor | None:
    """Return the loss () of exits that learn how good their answers are; None if there is no such exit.

    Cross entropy to the quality of the answer, the mean over exits. What such an exit sees of its output is
    detached, so that nothing else learns from this loss.

    Args:
        outputs: of the exits, then the last, as `Network.logits` gives them. exits: of the network.
        targets: of the images.
    """
    losses = []
    for output, place in zip(outputs, exits, strict=False):
        if place.criterion == "learned":
            quality = task.quality(answer(output, place.criterion), targets)
            losses.append(F.binary_cross_entropy_with_logits(output[:, -1], quality.to(output.dtype)))
    return torch.stack(losses).mean(0) if losses else None
