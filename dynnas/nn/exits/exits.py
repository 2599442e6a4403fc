"""Early exit at the first exit that is sure enough, decided for every image of a batch.

What an exit says of an image is a row of logits; an exit that is trained to judge itself appends one more
column, the logit of being right (criterion `learned`) or of stopping there (`policy`). How sure it is lies
between 0 and 1 by every criterion, so that one threshold means as much everywhere: an image leaves where the
exit is that sure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from dynnas.nn.layers.initial import linear
from dynnas.tasks.builtin.classification import Classification
from dynnas.tasks.task import Task

TASK = Classification()
"""The task by which confidence is computed: exits of space files are classifiers."""


class Leaving(Protocol):
    """A place where images may leave: an exit, or a network of a cascade."""

    @property
    def threshold(self) -> float:
        """Return the confidence from which images leave, from 0 to 1."""
        ...

    @property
    def criterion(self) -> str:
        """Return the confidence criterion; see `sureness`."""
        ...

    @property
    def task(self) -> Task | None:
        """Return the task that says how sure an output is; None where outputs are logits of classes."""
        ...


class Gate(nn.Module):
    """A head that predicts from an exit's logits how likely the exit is right (criterion `learned`).

    A logistic regression on what the task knows of the exit's doubt (`Task.doubt`). What it sees is detached:
    it is trained with the exit and does not disturb it.
    """

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.task = Classification(tuple(map(str, range(classes))))
        self.weigh = linear(self.task.doubts, 1)

    def forward(self, logits: Tensor) -> Tensor:
        """Map (B, classes) to the logit (B, 1) of being right."""
        return self.weigh(self.task.doubt(logits.detach()))


class ExitPolicy(nn.Module):
    """A head that says from an exit's logits whether an image stops there (criterion `policy`).

    A small network on what a `Gate` sees, detached as well. It is trained to stop where an image's loss and
    the price of what is run are least (`dynnas.training.algorithms.exits.exit_policy`).
    """

    def __init__(self, classes: int, hidden: int = 16) -> None:
        super().__init__()
        self.task = Classification(tuple(map(str, range(classes))))
        self.see, self.say = nn.Linear(self.task.doubts, hidden), linear(hidden, 1)

    def forward(self, logits: Tensor) -> Tensor:
        """Map (B, classes) to the logit (B, 1) of stopping."""
        found: Tensor = self.say(torch.relu(self.see(self.task.doubt(logits.detach()))))
        return found


JUDGED: Mapping[str, type[Gate | ExitPolicy]] = {"learned": Gate, "policy": ExitPolicy}
"""Criteria that are weights of an exit; what they say is one more column of its output."""


def answer(output: Tensor, criterion: str = "confidence") -> Tensor:
    """Return the logits (B, classes) in the output of an exit of this criterion, or of the head."""
    return output[:, :-1] if criterion in JUDGED else output


def sureness(output: Tensor, criterion: str = "confidence", task: Task | None = None) -> Tensor:
    """Return the confidence (B,) of an exit, from 0 to 1.

    Args:
        output: of the exit, (B, classes), and one column more for `learned` and `policy`; of maps
            (B, classes, ...) the mean over places counts.
        criterion: one of the task's (`Task.confidence`), or `learned` or `policy`.
        task: which says so of its outputs (B, ...); classification if None.
    """
    if criterion in JUDGED:
        return output[:, -1].sigmoid()
    if task is not None:
        return task.confidence(output, criterion)
    sure = TASK.confidence(output, criterion)
    return sure if sure.ndim == 1 else sure.flatten(1).mean(1)


def sureness_at(place: Leaving, output: Tensor) -> Tensor:
    """Return the confidence (B,) at a place where images may leave. For `output` see `sureness`."""
    return sureness(output, place.criterion, place.task)


def is_confident_at(place: Leaving, output: Tensor) -> Tensor:
    """Return whether each image leaves at a place: (B,) bool. For `output` see `sureness`."""
    return sureness_at(place, output) >= place.threshold


def select_confident(
    outputs: Sequence[Tensor],
    thresholds: Sequence[float],
    criteria: Sequence[str] = (),
    task: Task | None = None,
) -> tuple[Tensor, Tensor]:
    """Return where each image leaves, when every exit was computed for the whole batch.

    Args:
        outputs: of every exit in order, then of the head; see `sureness`.
        thresholds: of every exit.
        criteria: of every exit; all `confidence` if there is none.
        task: as of `sureness`.

    Returns:
        The outputs (B, ...) that each image leaves with, and the index (B,) int64 of its exit (the
        number of exits for the head).
    """
    chosen = outputs[-1]
    if not thresholds:
        return chosen, torch.zeros(len(chosen), dtype=torch.int64, device=chosen.device)
    criteria = criteria or ("confidence",) * len(thresholds)
    # One number, which `where` spreads over the batch: the batch's size must not enter an exported graph.
    # Not `torch.tensor`, whose constant cannot be saved with a program that branches around it.
    exits = torch.full((), len(thresholds), device=chosen.device)
    # Backwards, so that the first exit that is sure enough has the last word.
    for index in reversed(range(len(thresholds))):
        leaves = sureness(outputs[index], criteria[index], task) >= thresholds[index]
        each = leaves[(slice(None), *(None for _ in chosen.shape[1:]))]
        chosen = torch.where(each, answer(outputs[index], criteria[index]), chosen)
        exits = torch.where(leaves, index, exits)
    return chosen, exits


def leave(outputs: Sequence[Tensor], exits: Sequence[Leaving]) -> tuple[Tensor, Tensor]:
    """Call `select_confident` with a network's thresholds and criteria.

    Shapes are those of `select_confident`.
    """
    return select_confident(
        outputs,
        [place.threshold for place in exits],
        [place.criterion for place in exits],
        exits[0].task if exits else None,
    )


def answers(outputs: Sequence[Tensor], exits: Sequence[Leaving]) -> list[Tensor]:
    """Return the logits (B, classes) of every exit and of the head, in a network's `outputs`."""
    early = [answer(output, place.criterion) for output, place in zip(outputs, exits, strict=False)]
    return [*early, outputs[-1]]
