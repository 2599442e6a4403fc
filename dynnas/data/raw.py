"""The form into which every source reads its images, before they are split."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from dynnas.data.streaming.images import StreamedImages
from dynnas.errors import DataError


@dataclass(frozen=True, eq=False)
class Labelled:
    """Images uint8 [N, C, H, W] and their labels int64 [N].

    Attributes:
        keys: int64 [N], a digest of each image's file; None if the pixels are to tell images apart.
    """

    images: np.ndarray | StreamedImages
    labels: np.ndarray
    keys: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, indices: np.ndarray) -> Labelled:
        keys = None if self.keys is None else self.keys[indices]
        return Labelled(self.images[indices], self.labels[indices], keys)


@dataclass(frozen=True, eq=False)
class RawData:
    """A data set as it was found: training images, and search and test images where it has them.

    Attributes:
        where: the file or folder it was read from, for messages.
        mirrors: whether an image means the same from right to left; None lets the names of the classes tell.
        left_out: what lies there and was not read, in words.

    Raises:
        DataError: no images, not one label for each, labels out of range, images not alike.
    """

    name: str
    where: str
    class_names: tuple[str, ...]
    train: Labelled
    test: Labelled | None = None
    search: Labelled | None = None
    mirrors: bool | None = None
    left_out: str = ""

    def __post_init__(self) -> None:
        for part, labelled in (("training", self.train), ("test", self.test), ("search", self.search)):
            if labelled is not None:
                self._check(part, labelled)
        for part, other in (("test", self.test), ("search", self.search)):
            if other and other.images.shape[1:] != self.train.images.shape[1:]:
                train, differing = _shape(self.train.images), _shape(other.images)
                raise DataError(
                    f"{self.where}: training images are {train} but {part} images {differing};"
                    " make them alike"
                )
        if len(self.class_names) < 2:
            raise DataError(f"{self.where}: only one class, {self.class_names[0]!r}; at least two are needed")

    @property
    def mirrored(self) -> bool:
        """True if half of the training images may be mirrored: see `words`."""
        return words(self.class_names) if self.mirrors is None else self.mirrors

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


_SIDED = re.compile(
    r"(^|[^a-z])(left|right|clockwise|counter-?clockwise|signs?|arrows?|turns?|speed|limit|letters?|digits?|"
    r"zero|one|two|three|four|five|six|seven|eight|nine)($|[^a-z])",
    re.IGNORECASE,
)
"""Names with such words speak of sides, signs or numbers."""
_WORD = re.compile(r"[^\W\d_]{2}|^n\d{8}$")
"""A name is a word if this is in it; the second are WordNet's numbers of nouns, the classes of ImageNet."""


def words(names: Iterable[str]) -> bool:
    """Return whether every name is a word, and none speaks of sides, signs or numbers.

    Digits, letters, and classes that are only numbered, as those of traffic signs often are, may mean another
    thing when they are mirrored. A cat is a cat.
    """
    return all(_WORD.search(name) and not _SIDED.search(name) for name in names)


def numbered(labels: np.ndarray, *others: np.ndarray) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Return classes named for the numbers that occur, and all labels counted from 0, as int64 (N,)."""
    values = np.unique(np.concatenate([labels, *others]))
    return tuple(map(str, values.tolist())), [
        np.searchsorted(values, each).astype(np.int64) for each in (labels, *others)
    ]


def _shape(images: np.ndarray | StreamedImages) -> str:
    _, channels, height, width = images.shape
    return f"{channels} x {height} x {width} (channels x height x width)"
