"""The embedded default: scenes composed of scikit-learn's handwritten digits, a whole one among fragments.

Nobody photographed these: each is composed by a fixed rule, as cluttered MNIST is (Mnih 2014,
arXiv:1406.6247). A scene of 32 x 32 pixels shows one whole digit at any place, at some size and angle, and
fragments of other digits; its class is that of the whole one. Half of the scenes are easy, a large digit
alone, and half are hard: the harder, the smaller the digit and the more fragments. So some scenes need little
computation, and others more than the smallest networks have.

The digits are the test part of UCI's optical digits (Alpaydin and Kaynak 1998), by 13 writers. Who wrote
which is not recorded; but in their order the labels run fourteen times through one sequence of about 130,
as forms do that were filled in one after the other. Each split draws from forms of its own, for whole
digits and fragments: no digit occurs in two splits and, but for a person who may have filled in two forms,
no writer.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.cache import cached
from dynnas.data.raw import Labelled, RawData
from dynnas.data.sources.digits import load_digits

SIDE = 32

# Where the forms of each split lie in scikit-learn's order: eight to train with, three for each other split.
FORMS = {"train": slice(0, 1029), "search": slice(1029, 1415), "test": slice(1415, 1797)}

_SCENES = {"train": 16000, "search": 2000, "test": 2000}
_SEEDS = {"train": 1, "search": 2, "test": 3}

_EASY = 0.5  # share of the scenes
_EASY_RANGE, _HARD_RANGE = (0.0, 0.08), (0.5, 1.0)  # of the difficulty, which lies between 0 and 1

_SIZES = (12.0, 24.0)  # side of a whole digit, in pixels of the scene
_ANGLE = 0.4  # radians that a whole digit is turned, at most, either way
_FRAGMENTS = 6  # in the hardest scenes
_FRAGMENT_SIZES = (12.0, 20.0)  # side that the fragment's digit would have
_WINDOWS = (3.0, 4.5)  # side of what is left of it, in pixels of the digit
_FRAGMENT_BOX = 16  # pixels of the scene that hold the largest fragment, turned by any angle

_DIGIT = 8  # pixels of a digit's side
_TOGETHER = 1000  # scenes that are painted at a time, so that they take little memory
_MARGIN = 20  # pixels around a scene while it is painted, for what reaches out of it


def read() -> RawData:
    """Compose the scenes, the same on every machine, or take them from the cache."""
    scans, classes = load_digits()
    digits, labels = scans.astype(np.float32), classes.astype(np.uint8)
    rule = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=8)
    for array in (digits, labels):
        rule.update(array.tobytes())
    rows = cached(f"scenes-{rule.hexdigest()}", lambda: _all_scenes(digits / 16, labels))
    train, search, test = np.split(rows, np.cumsum(list(_SCENES.values()))[:-1])
    return RawData(
        name="scenes",
        where="scenes composed of scikit-learn's digits",
        class_names=tuple("0123456789"),
        train=_labelled(train),
        search=_labelled(search),
        test=_labelled(test),
        mirrors=False,
    )


def _labelled(rows: np.ndarray) -> Labelled:
    return Labelled(rows[:, :-1].reshape(-1, 1, SIDE, SIDE), rows[:, -1].astype(np.int64))


def _all_scenes(digits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compose all splits, one after the other: uint8 [N, 32 * 32 + 1], the pixels and the label."""
    parts = [
        _compose(digits[forms], labels[forms], _SCENES[part], np.random.default_rng(_SEEDS[part]))
        for part, forms in FORMS.items()
    ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class _Placed:
    """One digit, or a fragment of it, for each of some scenes; all arrays are [N].

    Attributes:
        scenes: where it is laid, each scene once.
        digits: which it is.
        rows, columns: where its centre lies in the scene.
        scales: pixels of the scene for a pixel of the digit.
        angles: in radians.
        centres: [2, N], row and column in the digit of what is shown of it.
        windows: side of what is shown of it, in pixels of the digit.
    """

    scenes: np.ndarray
    digits: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    scales: np.ndarray
    angles: np.ndarray
    centres: np.ndarray
    windows: np.ndarray


def _compose(digits: np.ndarray, labels: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Compose `count` scenes of `digits` [M, 8, 8], whose values are 0..1: rows as of `_all_scenes`."""
    chosen = rng.permutation(np.arange(count) % len(digits))
    parts = []
    for first in range(0, count, _TOGETHER):
        numbers = chosen[first : first + _TOGETHER]
        scenes = _painted(digits, numbers, rng).reshape(len(numbers), -1)
        parts.append(np.column_stack([np.rint(255 * scenes).astype(np.uint8), labels[numbers]]))
    return np.concatenate(parts)


def _painted(digits: np.ndarray, numbers: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Paint one scene around each of the digits `numbers` [N]: float32 [N, 32, 32]."""
    count = len(numbers)
    difficulty = _difficulty(count, rng)
    canvas = np.zeros((count, SIDE + 2 * _MARGIN, SIDE + 2 * _MARGIN), np.float32)
    _paint(canvas, digits, _whole_digits(numbers, difficulty, rng), SIDE)
    fragments = np.rint(_FRAGMENTS * difficulty)
    for number in range(_FRAGMENTS):
        among = np.flatnonzero(fragments > number)
        _paint(canvas, digits, _fragments(len(digits), among, rng), _FRAGMENT_BOX)
    return canvas[:, _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]


def _difficulty(count: int, rng: np.random.Generator) -> np.ndarray:
    """Draw how hard each scene is, from 0 to 1."""
    easy = rng.random(count) < _EASY
    return np.where(easy, _uniform(rng, *_EASY_RANGE, count), _uniform(rng, *_HARD_RANGE, count))


def _whole_digits(numbers: np.ndarray, difficulty: np.ndarray, rng: np.random.Generator) -> _Placed:
    count = len(numbers)
    smallest, largest = _SIZES
    sizes = smallest + (largest - smallest) * (1 - difficulty) * _uniform(rng, 0.7, 1.0, count)
    room = SIDE - sizes
    return _Placed(
        scenes=np.arange(count),
        digits=numbers,
        rows=(SIDE - 1) / 2 + room * _uniform(rng, -0.5, 0.5, count),
        columns=(SIDE - 1) / 2 + room * _uniform(rng, -0.5, 0.5, count),
        scales=sizes / _DIGIT,
        angles=_uniform(rng, -_ANGLE, _ANGLE, count),
        centres=np.full((2, count), (_DIGIT - 1) / 2),
        windows=np.full(count, _DIGIT + 2.0),
    )


def _fragments(known: int, scenes: np.ndarray, rng: np.random.Generator) -> _Placed:
    count = len(scenes)
    return _Placed(
        scenes=scenes,
        digits=rng.integers(known, size=count),
        rows=_uniform(rng, 0, SIDE - 1, count),
        columns=_uniform(rng, 0, SIDE - 1, count),
        scales=_uniform(rng, *_FRAGMENT_SIZES, count) / _DIGIT,
        angles=_uniform(rng, -np.pi, np.pi, count),
        centres=_uniform(rng, 2.0, _DIGIT - 3.0, (2, count)),
        windows=_uniform(rng, *_WINDOWS, count),
    )


def _uniform(rng: np.random.Generator, low: float, high: float, size: int | tuple[int, int]) -> np.ndarray:
    return low + (high - low) * rng.random(size)


def _paint(canvas: np.ndarray, digits: np.ndarray, placed: _Placed, box: int) -> None:
    """Lay `placed` over the scenes of `canvas` [N, H, W]; of two pixels the lighter one shows.

    `box` is the side of a square that holds each of them.
    """
    corners = [np.floor(place - (box - 1) / 2).astype(int) for place in (placed.rows, placed.columns)]
    steps = np.arange(box)
    down = _single(corners[0] - placed.rows) + steps[:, None].astype(np.float32)
    right = _single(corners[1] - placed.columns) + steps.astype(np.float32)
    sine, cosine = (_single(of(placed.angles) / placed.scales) for of in (np.sin, np.cos))
    # Row and column in the digit that each pixel of the box shows.
    offsets = (cosine * down - sine * right, sine * down + cosine * right)
    half = _single(placed.windows / 2)
    shown = (np.abs(offsets[0]) < half) & (np.abs(offsets[1]) < half)
    row, column = (offset + _single(centre) for offset, centre in zip(offsets, placed.centres, strict=True))
    pixels = _sample(digits[placed.digits], row, column) * shown
    scene = placed.scenes[:, None, None]
    rows = (corners[0][:, None] + _MARGIN + steps)[:, :, None]
    columns = (corners[1][:, None] + _MARGIN + steps)[:, None, :]
    canvas[scene, rows, columns] = np.maximum(canvas[scene, rows, columns], pixels)


def _single(values: np.ndarray) -> np.ndarray:
    """Return `values` [N] as float32 [N, 1, 1], whose sums and products are the same on every machine."""
    return values.astype(np.float32)[:, None, None]


def _sample(images: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Interpolate `images` [N, 8, 8] at places [N, h, w] between their pixels, bilinear; 0 outside."""
    padded = np.pad(images, ((0, 0), (1, 2), (1, 2))).reshape(len(images), -1)
    width = _DIGIT + 3
    row, column = (np.clip(place + 1, 0, _DIGIT + 1) for place in (row, column))
    top, left = np.floor(row), np.floor(column)
    below, beyond = row - top, column - left
    first = (top * width + left).astype(int)

    def at(down: int, right: int) -> np.ndarray:
        index = first + (down * width + right)
        return np.take_along_axis(padded, index.reshape(len(images), -1), axis=1).reshape(index.shape)

    upper = at(0, 0) * (1 - beyond) + at(0, 1) * beyond
    lower = at(1, 0) * (1 - beyond) + at(1, 1) * beyond
    return upper * (1 - below) + lower * below
