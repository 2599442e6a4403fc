"""The loading of the `data` section of a space file: a data set ready for use."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch

from dynnas.data.augment import augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.data.given import SPLITS, dataset_of, tell
from dynnas.data.importing import called, imported, is_reference
from dynnas.data.raw import Labelled
from dynnas.data.reading import Reading, reading_of
from dynnas.data.sources import find
from dynnas.data.split import split
from dynnas.data.streaming.images import Images, StreamedImages, in_batches
from dynnas.data.streaming.row_cache import RowCache, slots_of
from dynnas.errors import DataError
from dynnas.files import cache_folder
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings
from dynnas.tasks.registry import TASKS
from dynnas.tasks.task import Task

_MOST_VALUES = 2**31
_COUNTED_TOGETHER = 256


def load_data(settings: DataSettings, progress: Progress | None = None) -> Dataset:
    """Read, check and split the data set that `settings` describe.

    Raises:
        DataError: the data are missing or unusable; the message says how to get or mend them.
    """
    progress = progress or Progress()
    if is_reference(settings.source):
        return _given(settings, progress)
    reading = reading_of(settings)
    raw = find.read(settings.source, progress, reading)
    task = task_named(settings.task or "classification")
    parts = split(raw, settings)
    facts = f"{tuple(raw.train.images.shape[1:])} {reading.fit}"
    splits = {name: _split_of(getattr(parts, name), facts) for name in SPLITS}
    streamed = _with_cache(splits, reading)
    mean, std = _channel_statistics(splits["train"].images)
    kind = settings.augment
    if kind == "auto":
        kind = "flip" if raw.mirrored else "shift"
    dataset = Dataset(
        name=raw.name,
        task=task.of_data(splits["train"].targets, raw.class_names),
        train=splits["train"],
        search=splits["search"],
        test=splits["test"],
        mean=mean,
        std=std,
        augmentation=augmentation(kind, min(raw.train.images.shape[2:])),
    )
    tell(dataset, progress, streamed, left_out=raw.left_out)
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


def _channel_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 `images` [N, C, H, W] scaled to 0..1.

    They are those of the first images where there are more than `_MOST_VALUES` numbers: images are in random
    order, and reading all that is streamed would take as long as an epoch.
    """
    count = min(len(images), max(1, _MOST_VALUES // math.prod(images.shape[1:])))
    pixels = count * math.prod(images.shape[2:])
    total = square = np.zeros(images.shape[1], np.int64)
    for part in in_batches(images[:count], _COUNTED_TOGETHER):
        values = part.cpu().numpy()
        total = total + values.sum((0, 2, 3), dtype=np.int64)
        square = square + np.square(values, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64)
    mean = total / pixels
    # A constant channel has no deviation to divide by: one grey level stands in.
    std = np.sqrt(np.maximum(square / pixels - mean**2, 1))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _split_of(part: Labelled, facts: str) -> Split:
    images = part.images
    identity = ""
    if part.keys is not None:
        digest = hashlib.blake2b(np.ascontiguousarray(part.keys).tobytes(), digest_size=16)
        identity = f"{digest.hexdigest()} {facts}"
    return Split(
        torch.from_numpy(images) if isinstance(images, np.ndarray) else images,
        torch.from_numpy(part.labels),
        identity,
    )


def _with_cache(splits: Mapping[str, Split], reading: Reading) -> str:
    """Give streamed images their workers and their cache; returns what is said of it, in words.

    The search split comes first, as it is read for every candidate.
    """
    images = [splits[part].images for part in ("search", "train", "test")]
    streamed = [each for each in images if isinstance(each, StreamedImages)]
    if not streamed:
        return ""
    store = streamed[0].store
    row_bytes = math.prod(store.files.shape)
    order = np.concatenate([each.rows for each in streamed])
    store.workers = reading.workers
    if reading.cache_bytes >= row_bytes:
        names = " ".join(split.identity for split in splits.values())
        key = hashlib.blake2b(names.encode(), digest_size=16).hexdigest()
        slots = slots_of(order, len(store.files), row_bytes, reading.cache_bytes)
        store.cache = RowCache(cache_folder() / f"rows-{key}", slots, row_bytes)
    size = len(order) * row_bytes / 1e9
    return (
        f"streamed from disk ({size:.3g} GB decoded, more than data.memory_gb: "
        f"{reading.memory_bytes / 1e9:g}) by {reading.workers} processes, up to "
        f"{reading.cache_bytes / 1e9:g} GB kept decoded"
    )
