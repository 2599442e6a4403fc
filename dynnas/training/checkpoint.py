"""Training state on disk: written atomically, read without unpickling code."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dynnas.errors import TrainingError
from dynnas.files import replacing
from dynnas.settings.settings import TrainSettings
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet

FORMAT = 1
FILE = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """All that a training needs to go on to the same result: its draws follow from (seed, step)."""

    step: int
    total: int
    identity: str
    model: dict[str, Any]
    optimizer: dict[str, Any]
    execution: dict[str, Any]
    losses: list[float]
    epoch_loss: float

    @property
    def finished(self) -> bool:
        return self.step >= self.total


def save_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Replace the checkpoint in `folder`; a crash at any moment leaves the old one or the new one."""
    with replacing(folder / FILE) as file:
        torch.save({"dynnas_checkpoint": FORMAT, **vars(checkpoint)}, file)


def read_checkpoint(folder: Path) -> Checkpoint | None:
    """The checkpoint in `folder`, or None where there is none.

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
            f"{path}: not a readable checkpoint ({error}); remove it to train anew"
        ) from error
    version = content.pop("dynnas_checkpoint", None) if isinstance(content, dict) else None
    if version != FORMAT:
        raise TrainingError(
            f"{path}: found format {version!r}, this dynnas reads {FORMAT}; remove it to train anew"
        )
    return Checkpoint(**content)


def load_supernet(
    folder: Path, space: Space, channels: int, classes: int, settings: TrainSettings
) -> Supernet:
    """The finished supernet that `train_supernet` left in `folder`, in evaluation mode.

    Raises:
        TrainingError: there is none, or its training has not finished.
    """
    checkpoint = read_checkpoint(folder)
    if checkpoint is None or not checkpoint.finished:
        state = "no checkpoint" if checkpoint is None else f"step {checkpoint.step} of {checkpoint.total}"
        raise TrainingError(f"{folder}: the supernet is not trained ({state}); run the search again to go on")
    supernet = Supernet(space, channels, classes, experts=settings.experts, seed=settings.seed)
    supernet.load_state_dict(checkpoint.model)
    return supernet.eval()
