"""From the `data` section of a space file to a data set ready for use."""

from __future__ import annotations

import numpy as np
import torch

from dynnas.data.augment import augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.data.raw import Labelled
from dynnas.data.sources import find
from dynnas.data.split import split
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings
from dynnas.tasks.builtin.classification import Classification


def load_data(settings: DataSettings, progress: Progress | None = None) -> Dataset:
    """Read, check and split the data set that `settings` describe.

    Raises:
        DataError: the data are missing or unusable; the message says how to get or mend them.
    """
    raw = find.read(settings.source, progress or Progress())
    splits = split(raw, settings)
    mean, std = _channel_statistics(splits.train.images)
    kind = settings.augment
    if kind == "auto":
        # A mirrored digit is another sign, or none.
        kind = "shift" if raw.name == "digits" else "flip"
    return Dataset(
        name=raw.name,
        task=Classification().of_data(torch.from_numpy(splits.train.labels), raw.class_names),
        train=_tensors(splits.train),
        search=_tensors(splits.search),
        test=_tensors(splits.test),
        mean=mean,
        std=std,
        augmentation=augmentation(kind, splits.train.images.shape[-1]),
    )


def _channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel of uint8 `images` [N, C, R, R] scaled to 0..1."""
    pixels = images[:, 0].size
    mean = images.sum((0, 2, 3), dtype=np.int64) / pixels
    square = np.square(images, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64) / pixels
    # A constant channel has no deviation to divide by: one grey level stands in.
    std = np.sqrt(np.maximum(square - mean**2, 1))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _tensors(part: Labelled) -> Split:
    return Split(torch.from_numpy(part.images), torch.from_numpy(part.labels))
