"""The conformance suite of data: sources that are there pass, and broken ones are told what is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import dynnas
from dynnas.data.augment import Augmentation
from dynnas.data.dataset import Dataset, Split
from dynnas.data.given import dataset_of
from dynnas.data.raw import Labelled, RawData
from dynnas.data.sources.find import SOURCES
from dynnas.errors import DataError
from dynnas.testing.data import check_data, check_dataset

SHARED = {"fashion-mnist": 0.01}
"""Published data sets whose own splits have a few pictures in common."""


@pytest.mark.parametrize("name", SOURCES)
def test_registered_sources_conform(name):
    try:
        check_data(name, shared=SHARED.get(name, 0.0), train_images=400, search_images=100)
    except DataError as error:
        if "is not on this machine" not in str(error):
            raise
        pytest.skip(str(error))


def pictures(count, seed, shape=(3, 8, 6)):
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


@pytest.mark.parametrize(
    ("targets", "task"),
    [
        (lambda count: np.arange(count) % 3, None),
        (lambda count: np.random.default_rng(0).normal(size=(count, 2)), dynnas.tasks.Regression()),
        (lambda count: np.arange(count * 48).reshape(count, 8, 6) % 3, dynnas.tasks.Segmentation()),
    ],
    ids=["classes", "numbers", "masks"],
)
def test_what_a_program_gives_conforms(targets, task):
    parts = {name: (pictures(count, at), targets(count)) for at, (name, count) in enumerate(SIZES.items())}
    moved = isinstance(task, dynnas.tasks.Segmentation)
    check_dataset(dataset_of(parts, task, augment="none" if moved else "flip"))


SIZES = {"train": 40, "search": 12, "test": 12}


@pytest.fixture(scope="module")
def sound():
    return dataset_of(
        {name: (pictures(n, at), np.arange(n) % 3) for at, (name, n) in enumerate(SIZES.items())}
    )


class Shaking(Augmentation):
    def __call__(self, images, targets, task, generator):
        return images + torch.randint_like(images, 2), targets


class Ordered(Dataset):
    def training_batches(self, seed, epoch, batch, start=0, stop=None):
        for step in range(start, self.steps(batch) if stop is None else stop):
            part = slice(step * batch, (step + 1) * batch)
            yield self.normalise(self.train.images[part]), self.train.targets[part]


class Repeating(Dataset):
    def training_batches(self, seed, epoch, batch, start=0, stop=None):
        for step in range(start, self.steps(batch) if stop is None else stop):
            draw = torch.Generator().manual_seed(seed + 7 * epoch + step)
            chosen = torch.randint(40, (batch,), generator=draw)
            yield self.normalise(self.train.images[chosen]), self.train.targets[chosen] * 0


def of_class(kind):
    return lambda data: kind(**{name: getattr(data, name) for name in data.__dataclass_fields__})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: replace(data, mean=(0.5,)), "1 means and 3 deviations for 3 channels"),
        (lambda data: replace(data, mean=(0.0,) * 3), "normalised, the mean of the channels is"),
        (lambda data: replace(data, std=(1.0,) * 3), "normalised, the standard deviation of the channels is"),
        (
            lambda data: replace(
                data, test=Split(torch.zeros(5, 3, 8, 8, dtype=torch.uint8), torch.zeros(5).long())
            ),
            r"test images are \(3, 8, 8\), not \(3, 8, 6\)",
        ),
        (
            lambda data: replace(data, search=data.train[:4]),
            "4 of 4 search images are train images too; allowed are 0. Leave the copies out",
        ),
        (lambda data: replace(data, augmentation=Shaking()), "training batch 0 depends on which were asked"),
        (of_class(Ordered), "another seed gives the same batch"),
        (of_class(Repeating), "an epoch takes some images twice"),
    ],
)
def test_a_broken_data_set_is_told_what_is_wrong(sound, spoil, message):
    check_dataset(sound)
    with pytest.raises(AssertionError, match=message):
        check_dataset(spoil(sound))


def unsteady(progress):
    count = 30
    images = np.random.default_rng().integers(0, 256, (count, 1, 8, 8), dtype=np.uint8)
    return RawData("unsteady", "here", ("a", "b"), Labelled(images, np.arange(count) % 2))


def floating(progress):
    return RawData("floating", "here", ("a", "b"), Labelled(np.zeros((30, 1, 8, 8)), np.arange(30) % 2))


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (unsteady, "read twice, train differs; draw by a fixed seed"),
        (floating, "train images are float64, not uint8"),
        (lambda progress: (np.zeros((3, 1, 8, 8)), np.arange(3)), "reading gives a tuple, not RawData"),
    ],
)
def test_a_broken_source_is_told_what_is_wrong(read, message, monkeypatch):
    monkeypatch.setattr(SOURCES, "_entries", {**SOURCES, "mine": read})
    with pytest.raises(AssertionError, match=message):
        check_data("mine")
