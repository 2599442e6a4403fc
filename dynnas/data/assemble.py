"""The way from labelled images in three splits to a data set: statistics, identity, and streaming."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from dynnas.data.augment import Augment
from dynnas.data.dataset import Dataset, Split
from dynnas.data.raw import Labelled
from dynnas.data.reading import Reading
from dynnas.data.streaming.images import Images, StreamedImages, in_batches
from dynnas.data.streaming.row_cache import RowCache, slots_of
from dynnas.files import cache_folder
from dynnas.tasks.task import Task

_SAMPLED_VALUES = 2**28
"""Numbers in the training images by which all are normalised, where there are more of them."""
SCALES = {torch.uint8: 255.0, torch.int32: 65535.0, torch.float32: 1.0}
"""The number that stands for white, by the type of pixels."""
_COUNTED_TOGETHER = 256


def assemble(
    name: str,
    task: Task,
    class_names: Sequence[str],
    parts: Mapping[str, Labelled],
    reading: Reading,
    augmentation: Augment,
) -> tuple[Dataset, str]:
    """Make the data set of images that were read, and say in words what is not plain about it.

    That is how they are streamed, if they are, and by how many of them all are normalised, if not by all.

    Args:
        name: of the data set.
        task: before it has seen the data.
        class_names: of the labels.
        parts: the train, search and test splits.
        reading: the way in which images were read.
        augmentation: how training images are varied.

    Raises:
        TaskError: the labels are not of the task.
    """
    images = parts["train"].images
    facts = f"{tuple(images.shape[1:])} {reading.fit}"
    splits = {part: _split_of(each, facts) for part, each in parts.items()}
    streamed = _with_cache(splits, reading)
    held = splits["train"].images
    scale = SCALES[held.dtype]
    whole = held if isinstance(held, Tensor) and held.dtype != torch.uint8 else None
    mean, std = byte_statistics(held) if whole is None else channel_statistics(whole, scale)
    notes = [streamed, sampled_note(held)]
    dataset = Dataset(
        name=name,
        task=task.of_data(splits["train"].targets, class_names),
        train=splits["train"],
        search=splits["search"],
        test=splits["test"],
        mean=mean,
        std=std,
        augmentation=augmentation,
        scale=scale,
        fit=reading.fit or "crop",
    )
    return dataset, "; ".join(filter(None, notes))


def sampled(images: Images) -> Images:
    """Return the images of a split [N, C, H, W] that stand for all of them in statistics.

    They are its first, which is a random sample by the seed of its order; all of them up to
    `_SAMPLED_VALUES` numbers. Reading more of what is streamed would take as long as an epoch, and what lies
    in memory is to be normalised in the same way.
    """
    return images[: max(1, _SAMPLED_VALUES // math.prod(images.shape[1:]))]


def sampled_note(images: Images) -> str:
    """Return in words how many images stand for all; empty where all do."""
    count = len(sampled(images))
    return "" if count == len(images) else f"normalised by {count:,} training images drawn at random"


def byte_statistics(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of uint8 images [N, C, H, W] scaled to 0..1.

    They are those of the images that are `sampled`.
    """
    images = sampled(images)
    pixels = len(images) * math.prod(images.shape[2:])
    total = square = np.zeros(images.shape[1], np.int64)
    for part in in_batches(images, _COUNTED_TOGETHER):
        values = part.cpu().numpy()
        total = total + values.sum((0, 2, 3), dtype=np.int64)
        square = square + np.square(values, dtype=np.uint16).sum((0, 2, 3), dtype=np.int64)
    mean = total / pixels
    # A constant channel has no deviation to divide by: one grey level stands in.
    std = np.sqrt(np.maximum(square / pixels - mean**2, 1))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def channel_statistics(images: Tensor, scale: float) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation of each channel of `images` [N, C, H, W] divided by `scale`.

    They are those of the images that are `sampled`.
    """
    if images.dtype == torch.uint8:
        return byte_statistics(images)
    images = images[: len(sampled(images))]
    channels = [images[:, channel].double() / scale for channel in range(images.shape[1])]
    # A constant channel has no deviation to divide by: one grey level stands in.
    deviations = [max(float(channel.std(correction=0)), 1 / 255) for channel in channels]
    return tuple(float(channel.mean()) for channel in channels), tuple(deviations)


def _split_of(part: Labelled, facts: str) -> Split:
    images = part.images
    if isinstance(images, np.ndarray) and not images.flags.writeable:
        images = images.copy()  # a file of the cache
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
