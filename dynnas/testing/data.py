"""The conformance suite of data: `check_data` over a source, and `check_dataset` over any data set."""

from __future__ import annotations

import hashlib
import math
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.raw import RawData
from dynnas.data.sources import find
from dynnas.data.streaming.images import in_batches
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings

_BATCH = 8
_STATISTICS = 0.1


@dataclass(frozen=True)
class DatasetSubject:
    """A data set to check.

    Attributes:
        dataset: as the search gets it.
        shared: share of the images of a split that may lie in another one as well.
    """

    dataset: Dataset
    shared: float = 0.0

    def __str__(self) -> str:
        """Return the name, for messages."""
        return self.dataset.name

    @cached_property
    def splits(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The normalised images (N, C, H, W) and targets (N, ...) of each split, in order."""
        dataset = self.dataset
        parts = {"train": dataset.train, "search": dataset.search, "test": dataset.test}
        return {name: _joined(dataset.evaluation_batches(part, 64)) for name, part in parts.items()}


def check_data(source: str, *, shared: float = 0.0, **settings: Any) -> None:
    """Check a registered source, or data at a path, and the data set that is made of it.

    Args:
        source: the name of what reads it, or a path.
        shared: share of the images of a split that may lie in another one as well.
        settings: of the `data` section of a space file.

    Raises:
        AssertionError: the data break the contract; says how.
        DataError: the data cannot be read.
    """
    check_raw_data(source)
    check_seeds(source, **settings)
    check_dataset(load_data(DataSettings(source=source, **settings)), shared=shared)


def check_dataset(dataset: Dataset, *, shared: float = 0.0) -> None:
    """Check all that training, search and workers rely on.

    Args:
        dataset: to check.
        shared: share of the images of a split that may lie in another one as well.

    Raises:
        AssertionError: the data set breaks the contract; says how.
    """
    subject = DatasetSubject(dataset, shared)
    for check in dataset_checks():
        check(subject)


def dataset_checks() -> Iterator[Callable[[DatasetSubject], None]]:
    """Yield the checks of a data set one by one, for parametrised tests."""
    yield check_shapes
    yield check_targets
    yield check_normalisation
    yield check_evaluation
    yield check_training_batches
    yield check_calibration
    yield check_copies
    yield check_that_splits_are_disjoint


def check_raw_data(source: str) -> None:
    """Check that reading twice gives the same, as bytes with channels first and one number for each image."""
    first, again = (_read(source) for _ in "ab")
    assert isinstance(first, RawData), f"data {source}: reading gives a {type(first).__name__}, not RawData"
    assert len({*first.class_names}) == len(first.class_names), f"data {source}: two classes have one name"
    for part in ("train", "search", "test"):
        one, other = getattr(first, part), getattr(again, part)
        if one is None:
            continue
        assert one.images.dtype == np.uint8, f"data {source}: {part} images are {one.images.dtype}, not uint8"
        assert one.images.ndim == 4, f"data {source}: {part} images are {one.images.shape}, not (N, C, H, W)"
        assert one.labels.dtype == np.int64, f"data {source}: {part} labels are {one.labels.dtype}, not int64"
        same = np.array_equal(one.images, other.images) and np.array_equal(one.labels, other.labels)
        assert same, (
            f"data {source}: read twice, {part} differs; draw by a fixed seed, and sort what is listed"
        )


def _read(source: str) -> RawData:
    read = find.SOURCES.get(source)
    return read(Progress()) if read else find.read(source, Progress())


def check_seeds(source: str, **settings: Any) -> None:
    """Check that the seed decides which images rank candidates, and leaves those of the test alone."""
    first, again, other = (
        load_data(DataSettings(source=source, seed=seed, **settings)) for seed in (0, 0, 1)
    )
    assert first.digest == again.digest, f"data {source}: read twice, its digest differs"
    assert first.digest != other.digest, f"data {source}: another seed gives the same splits"
    tests = [
        Counter(d for part in in_batches(dataset.test.images, 64) for d in _digests(part))
        for dataset in (first, other)
    ]
    assert tests[0] == tests[1], f"data {source}: the seed decides which images are tested"


def check_shapes(subject: DatasetSubject) -> None:
    """Check that images of all splits have the shape and channels that the data set says."""
    dataset = subject.dataset
    assert dataset.summary.startswith(f"{dataset.name}: "), f"data {subject}: its summary lacks its name"
    assert len(dataset.mean) == len(dataset.std) == dataset.channels, (
        f"data {subject}: {len(dataset.mean)} means and {len(dataset.std)} deviations for "
        f"{dataset.channels} channels"
    )
    for (name, (images, targets)), size in zip(subject.splits.items(), dataset.split_sizes, strict=True):
        assert len(images) == len(targets) == size > 0, (
            f"data {subject}: {name} has {len(images)} images, {len(targets)} targets, and says {size}"
        )
        assert tuple(images.shape[1:]) == dataset.shape, (
            f"data {subject}: {name} images are {tuple(images.shape[1:])}, not {dataset.shape}"
        )
        assert images.dtype == torch.float32, f"data {subject}: {name} images are given as {images.dtype}"
        assert torch.isfinite(images).all(), f"data {subject}: some {name} pixels are not finite"


def check_targets(subject: DatasetSubject) -> None:
    """Check that the task takes the targets of every split, and knows as much as they tell."""
    task = subject.dataset.task
    assert task.outputs > 0, f"data {subject}: its task has {task.outputs} outputs"
    for name, (_, targets) in subject.splits.items():
        again = task.of_data(targets, task.names)
        assert again.outputs == task.outputs, (
            f"data {subject}: by the {name} targets the task has {again.outputs} outputs, not {task.outputs}"
        )
        assert isinstance(task.describe_target(targets[0]), str)


def check_normalisation(subject: DatasetSubject) -> None:
    """Check that training images have mean 0 and deviation 1 in each channel."""
    images, _ = subject.splits["train"]
    mean, std = images.mean((0, 2, 3)), images.std((0, 2, 3))
    constant = std < _STATISTICS  # one grey level stands in for the deviation
    for what, found, wanted in (("mean", mean, 0.0), ("standard deviation", std, 1.0)):
        wrong = ((found - wanted).abs() > _STATISTICS) & ~constant
        assert not wrong.any(), (
            f"data {subject}: normalised, the {what} of the channels is {found.tolist()}, not {wanted:g}"
        )


def check_evaluation(subject: DatasetSubject) -> None:
    """Check that the size of batches changes nothing, and that the same comes again."""
    for name, (images, targets) in subject.splits.items():
        part = getattr(subject.dataset, name)
        for batch in (_BATCH, 1 + _BATCH):
            found, said = _joined(subject.dataset.evaluation_batches(part, batch))
            assert torch.equal(found, images), f"data {subject}: {name}: in batches of {batch} images differ"
            assert torch.equal(said, targets), f"data {subject}: {name}: in batches of {batch} targets differ"


def check_training_batches(subject: DatasetSubject) -> None:
    """Check that a batch follows from its arguments alone, and that an epoch takes every image once."""
    dataset = subject.dataset
    batch = min(_BATCH, dataset.split_sizes[0])
    steps = min(4, dataset.steps(batch))
    forward = [dataset.train_batch(0, 1, step, batch) for step in range(steps)]
    backward = [dataset.train_batch(0, 1, step, batch) for step in reversed(range(steps))][::-1]
    started = list(zip(range(steps - 1), dataset.training_batches(0, 1, batch, start=1), strict=False))
    for step, (images, targets) in enumerate(forward):
        assert images.shape == (batch, *dataset.shape), f"data {subject}: a batch is {tuple(images.shape)}"
        assert len(targets) == batch, f"data {subject}: a batch of {batch} has {len(targets)} targets"
        assert torch.equal(images, backward[step][0]), (
            f"data {subject}: training batch {step} depends on which were asked for before it"
        )
        assert torch.equal(targets, backward[step][1]), f"data {subject}: targets of batch {step} differ"
    for place, (images, _) in started:
        assert torch.equal(images, forward[place + 1][0]), (
            f"data {subject}: training_batches from step 1 on differ from train_batch"
        )
    assert not torch.equal(forward[0][0], dataset.train_batch(1, 1, 0, batch)[0]), (
        f"data {subject}: another seed gives the same batch"
    )
    assert not torch.equal(forward[0][0], dataset.train_batch(0, 2, 0, batch)[0]), (
        f"data {subject}: the next epoch begins with the same batch"
    )
    count = dataset.steps(batch) * batch
    taken = torch.cat([targets for _, targets in dataset.training_batches(0, 1, batch)])
    assert len(taken) == count, f"data {subject}: an epoch has {len(taken)} targets, not {count}"
    there, used = (Counter(_digests(part)) for part in (subject.splits["train"][1], taken))
    assert not used - there, f"data {subject}: an epoch takes some images twice"


def check_calibration(subject: DatasetSubject) -> None:
    """Check that statistics come from unvaried training images, the same ones each time."""
    dataset = subject.dataset
    count = min(_BATCH, dataset.split_sizes[0])
    images = dataset.calibration_images(count, 0)
    assert images.shape == (count, *dataset.shape), f"data {subject}: calibration: {tuple(images.shape)}"
    assert torch.equal(images, dataset.calibration_images(count, 0)), f"data {subject}: calibration differs"
    known = {*_digests(subject.splits["train"][0])}
    strange = sum(digest not in known for digest in _digests(images))
    assert not strange, f"data {subject}: {strange} calibration images are no training images"


def check_copies(subject: DatasetSubject) -> None:
    """Check that a copy, as workers get it, has the same digest and batches."""
    dataset = subject.dataset
    there = pickle.loads(pickle.dumps(dataset))
    assert there.digest == dataset.digest, f"data {subject}: a copy has another digest"
    batch = min(_BATCH, dataset.split_sizes[0])
    for copy, where in ((there, "sent to a worker"), (dataset.to("cpu"), "moved to a device")):
        same = torch.equal(copy.train_batch(0, 0, 0, batch)[0], dataset.train_batch(0, 0, 0, batch)[0])
        assert same, f"data {subject}: {where}, it gives other batches"


def check_that_splits_are_disjoint(subject: DatasetSubject) -> None:
    """Check that no image of a split is one of another, but for the share that is allowed."""
    digests = {name: _digests(images) for name, (images, _) in subject.splits.items()}
    for name, other in (("search", "train"), ("test", "train"), ("test", "search")):
        known = {*digests[other]}
        both = sum(digest in known for digest in digests[name])
        allowed = math.floor(subject.shared * len(digests[name]))
        assert both <= allowed, (
            f"data {subject}: {both} of {len(digests[name])} {name} images are {other} images too; allowed "
            f"are {allowed}. Leave the copies out, or allow a share of them with shared=..."
        )


def _joined(batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    images, targets = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(targets)


def _digests(rows: Tensor) -> list[bytes]:
    """Return a digest of each row."""
    return [hashlib.blake2b(row.contiguous().numpy().data, digest_size=16).digest() for row in rows]
