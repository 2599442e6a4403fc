"""The loading of the `data` section of a space file: a data set ready for use."""

from __future__ import annotations

import numpy as np
import torch

from dynnas.data.augment import augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.data.given import dataset_of, tell
from dynnas.data.importing import called, imported, is_reference
from dynnas.data.raw import Labelled
from dynnas.data.sources import find
from dynnas.data.split import split
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings
from dynnas.tasks.registry import TASKS
from dynnas.tasks.task import Task


def load_data(settings: DataSettings, progress: Progress | None = None) -> Dataset:
    """Read, check and split the data set that `settings` describe.

    Raises:
        DataError: the data are missing or unusable; the message says how to get or mend them.
    """
    progress = progress or Progress()
    if is_reference(settings.source):
        return _given(settings, progress)
    raw = find.read(settings.source, progress)
    task = task_named(settings.task or "classification")
    splits = split(raw, settings)
    mean, std = _channel_statistics(splits.train.images)
    kind = settings.augment
    if kind == "auto":
        kind = "flip" if raw.mirrors else "shift"
    dataset = Dataset(
        name=raw.name,
        task=task.of_data(torch.from_numpy(splits.train.labels), raw.class_names),
        train=_tensors(splits.train),
        search=_tensors(splits.search),
        test=_tensors(splits.test),
        mean=mean,
        std=std,
        augmentation=augmentation(kind, splits.train.images.shape[-1]),
    )
    tell(dataset, progress, left_out=raw.left_out)
    return dataset


def _given(settings: DataSettings, progress: Progress) -> Dataset:
    """Return the result of the function `package.module:name`: a data set, or splits of one."""
    found = called(imported(settings.source, "data.source"), f"data.source: {settings.source}")
    if isinstance(found, Dataset):
        tell(found, progress)
        return found
    return dataset_of(
        found,
        task_named(settings.task) if settings.task else None,
        name=settings.source,
        augment="none" if settings.augment == "auto" else settings.augment,
        search_images=settings.search_images,
        seed=settings.seed,
        progress=progress,
    )


def task_named(name: str) -> Task:
    """Return the task of a registered name, or the object (or the result of a function) at
    package.module:name.

    Raises:
        TaskError: there is no task of that name.
        DataError: it cannot be imported, or is no task.
    """
    if not is_reference(name):
        return TASKS[name]()
    found = imported(name, "data.task")
    found = found if isinstance(found, Task) else called(found, f"data.task: {name}")
    if not isinstance(found, Task):
        raise DataError(f"data.task: {name} is a {type(found).__name__}; needed is a dynnas.tasks.Task")
    return found


def _channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 `images` [N, C, R, R] scaled to 0..1."""
    pixels = images[:, 0].size
    mean = images.sum((0, 2, 3), dtype=np.int64) / pixels
    square = np.square(images, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64) / pixels
    # A constant channel has no deviation to divide by: one grey level stands in.
    std = np.sqrt(np.maximum(square - mean**2, 1))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _tensors(part: Labelled) -> Split:
    return Split(torch.from_numpy(part.images), torch.from_numpy(part.labels))
