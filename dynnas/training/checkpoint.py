"""Training state on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from dynnas.errors import TrainingError
from dynnas.files import replacing
from dynnas.settings.settings import TrainSettings
from dynnas.space.space import Space
from dynnas.supernet.make import make_supernet
from dynnas.supernet.supernet import Supernet

FORMAT = 2
FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """The state that a training needs to continue to the same result: its draws follow from (seed, step).

    Attributes:
        step: steps done. total: of all.
        identity: what must be equal for it to be continued.
        model, optimizer: their states. algorithms: theirs, by name.
        execution: how the arithmetic is done.
        losses: mean loss of each whole epoch. epoch_loss: of the current one so far, over its steps.
    """

    step: int
    total: int
    identity: str
    model: dict[str, Any]
    optimizer: dict[str, Any]
    execution: dict[str, Any]
    losses: list[float]
    epoch_loss: float
    algorithms: dict[str, Any] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return self.step >= self.total


Save = Callable[[Checkpoint], None]
"""A function that stores a checkpoint in place of the one before."""


@dataclass
class CheckpointTimer:
    """Decides when a checkpoint is due: soon after the start, then less often, and never for long.

    A training that is killed every few seconds gets on; one that is not spends little time on checkpoints.

    Attributes:
        first: seconds until the first one. Intervals then grow with the time that has passed.
        interval: most seconds between two.
        share: of the time that checkpoints may take; it prolongs the interval where they are slow.
        clock: gives seconds.
    """

    first: float = 3.0
    interval: float = 20.0
    share: float = 0.02
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        """Start the time."""
        self._start = self._saved_at = self.clock()
        self._cost = 0.0

    def due(self) -> bool:
        """Return whether a checkpoint is due."""
        now = self.clock()
        pause = min(self.interval, max(self.first, self._saved_at - self._start))
        return now - self._saved_at >= max(pause, self._cost / self.share if self._cost else 0.0)

    def save(self, keep: Callable[[], None]) -> None:
        """Save by calling `keep`, and measure how long that takes."""
        start = self.clock()
        keep()
        self._saved_at = self.clock()
        self._cost = self._saved_at - start


def every_step() -> CheckpointTimer:
    """Return a timer by which a checkpoint is due after each step."""
    return CheckpointTimer(first=0.0, interval=0.0, share=float("inf"))


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Replace the checkpoint in `folder`; a crash at any moment leaves the old one or the new one."""
    with replacing(folder / FILE) as file:
        torch.save({"dynnas_checkpoint": FORMAT, **vars(checkpoint)}, file)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """Return the checkpoint in `folder`, or None where there is none.

    Raises:
        TrainingError: the file is damaged or of another format.
    """
    path = folder / FILE
    if not path.exists():
        return None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise TrainingError(
            f"{path}: not a readable checkpoint ({error}); remove it to train again"
        ) from error
    version = content.pop("dynnas_checkpoint", None) if isinstance(content, dict) else None
    if version != FORMAT:
        raise TrainingError(
            f"{path}: found format {version!r}, this dynnas reads {FORMAT}; remove it to train again"
        )
    return Checkpoint(**content)


def load_supernet(
    folder: Path, space: Space, channels: int, classes: int, settings: TrainSettings
) -> Supernet:
    """Return the finished supernet that `train_supernet` left in `folder`, in evaluation mode.

    Raises:
        TrainingError: there is none, or its training has not finished.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint is None or not checkpoint.finished:
        state = "no checkpoint" if checkpoint is None else f"step {checkpoint.step} of {checkpoint.total}"
        raise TrainingError(f"{folder}: the supernet is not trained ({state}); run the search again to go on")
    supernet = make_supernet(space, channels, classes, experts=settings.experts, seed=settings.seed)
    supernet.load_state_dict(checkpoint.model)
    return supernet.eval()
