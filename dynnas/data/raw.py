"""What every source of images is read into, before it is split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dynnas.errors import DataError

_KNOWN_CLASSES = {
    "fashion-mnist": (
        *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
        *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
    ),
    "cifar10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images uint8 [N, C, R, R] and their labels int64 [N]."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> Labelled:
        return Labelled(self.images[indices], self.labels[indices])


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set as it was found: training images, and test images where it has them.

    Attributes:
        where: the file or folder it was read from, for messages.

    Raises:
        DataError: no images, not one label for each, labels out of range, images not square or not alike.
    """

    name: str
    where: str
    class_names: tuple[str, ...]
    train: Labelled
    test: Labelled | None = None

    def __post_init__(self) -> None:
        for part, labelled in (("training", self.train), ("test", self.test)):
            if labelled is not None:
                self._check(part, labelled)
        if self.test and self.test.images.shape[1:] != self.train.images.shape[1:]:
            train, test = (_shape(part.images) for part in (self.train, self.test))
            raise DataError(
                f"{self.where}: training images are {train} but test images {test}; make them alike"
            )
        if len(self.class_names) < 2:
            raise DataError(f"{self.where}: only one class, {self.class_names[0]!r}; at least two are needed")

    def _check(self, part: str, labelled: Labelled) -> None:
        images, labels = labelled.images, labelled.labels
        if len(images) != len(labels):
            raise DataError(
                f"{self.where}: {len(images)} {part} images but {len(labels)} labels; the file is incomplete,"
                " make or fetch it again"
            )
        if not len(images):
            raise DataError(f"{self.where}: there are no {part} images")
        if labels.min() < 0 or labels.max() >= len(self.class_names):
            raise DataError(
                f"{self.where}: {part} labels reach from {labels.min()} to {labels.max()} but there are"
                f" {len(self.class_names)} classes; number them from 0"
            )
        if images.shape[2] != images.shape[3]:
            raise DataError(
                f"{self.where}: {part} images must be square but are {_shape(images)}; crop or pad them"
            )


def class_names(name: str, classes: int) -> tuple[str, ...]:
    """The names of a well-known data set's classes, or their numbers."""
    known = _KNOWN_CLASSES.get(name, ())
    return known if len(known) == classes else tuple(map(str, range(classes)))


def _shape(images: np.ndarray) -> str:
    _, channels, height, width = images.shape
    return f"{channels} x {height} x {width} (channels x height x width)"
