"""Pictures with boxes as they were found, and the data set that is made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dynnas.data.raw import Labelled
from dynnas.data.reading import Reading
from dynnas.data.sources.listing import Listing
from dynnas.data.sources.pictures import Form
from dynnas.data.split import completed
from dynnas.errors import DataError
from dynnas.progress import Progress
from dynnas.settings.settings import DataSettings

_LONGEST_SIDE = 640
_LEAST_SHARE = 0.25
"""Part of a box that must lie inside a picture that is cut, or the box is left out."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture file with its boxes.

    Attributes:
        path: of the file.
        boxes: float64 [M, 5], class, x1, y1, x2, y2 in pixels of the file.
        size: width and height that the annotation says; None if it does not.
    """

    path: Path
    boxes: np.ndarray
    size: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class Annotated:
    """A data set of boxes as it was found.

    Attributes:
        splits: pictures by the name of the split, `train` among them; without `search` or `test` these are
            cut from it.
        left_out: what lies there and was not read, in words.
    """

    name: str
    where: str
    class_names: tuple[str, ...]
    splits: Mapping[str, Sequence[Picture]]
    left_out: str = ""
    notes: list[str] = field(default_factory=list)


def splits_of(
    found: Annotated, settings: DataSettings, reading: Reading, progress: Progress
) -> dict[str, Labelled]:
    """Bring pictures and boxes to one size, and cut the splits that are missing.

    Raises:
        DataError: a picture cannot be read, or a split would have none.
    """
    pairs, cut = completed({part: len(each) for part, each in found.splits.items()}, settings, found.where)
    parts = {part: [found.splits[own][row] for own, row in chosen] for part, chosen in pairs.items()}
    if cut:
        found.notes.append(cut)
    everything = [picture for part in parts.values() for picture in part]
    listing = Listing.of(Path(found.where), [picture.path for picture in everything], progress)
    _check_sizes(everything, listing.facts[:, :2], found.where, progress)
    form = _form(listing, reading)
    images = listing.images(form, reading, progress)
    boxes = [
        placed(picture.boxes, int(width), int(height), form)
        for picture, (width, height) in zip(everything, listing.facts[:, :2], strict=True)
    ]
    made, start = {}, 0
    for part, chosen in parts.items():
        rows = np.arange(start, start + len(chosen))
        start += len(chosen)
        made[part] = Labelled(images[rows], _padded([boxes[row] for row in rows]), listing.facts[rows, 3])
    return made


def _check_sizes(pictures: Sequence[Picture], sizes: np.ndarray, where: str, progress: Progress) -> None:
    """Compare the sizes that annotations say with those of the upright pictures, [N, 2].

    Raises:
        DataError: one is turned by a quarter, so that boxes would lie beside what they mean.
    """
    other = []
    for picture, (width, height) in zip(pictures, sizes.tolist(), strict=True):
        if picture.size in (None, (0, 0), (width, height)):
            continue
        if picture.size == (height, width):
            raise DataError(
                f"{picture.path}: upright it has {width} x {height} pixels, and its annotation says "
                f"{height} x {width}; turn its boxes, or save it without an EXIF orientation"
            )
        other.append((picture, (width, height)))
    if other:
        first, (width, height) = other[0]
        assert first.size is not None
        progress.message(
            f"warning: {where}: {len(other)} pictures have another size than their annotations say, as "
            f"{first.path.name}, {width} x {height} and not {first.size[0]} x {first.size[1]}; boxes are "
            "taken as pixels of the pictures"
        )


def _form(listing: Listing, reading: Reading) -> Form:
    """Return the form that is asked for, or the median size with a longer side of at most 640."""
    width, height = np.median(listing.facts[:, :2], axis=0)
    smaller = min(1.0, _LONGEST_SIDE / max(width, height))
    high, wide = reading.size or (round(height * smaller), round(width * smaller))
    return Form(high, wide, listing.grey, reading.fit or "pad", listing.deep)


def placed(boxes: np.ndarray, width: int, height: int, form: Form) -> np.ndarray:
    """Return the boxes of a picture of a size where they lie in its form: float32 [M', 5].

    Boxes are cut at the border, and left out if less than a quarter of them remains.
    """
    if form.fit == "stretch":
        scale, offset = (form.width / width, form.height / height), (0.0, 0.0)
    elif form.fit == "pad":  # as `PIL.ImageOps.pad` rounds
        narrower = width / height < form.width / form.height
        wide = round(width / height * form.height) if narrower else form.width
        high = form.height if narrower else min(form.height, round(height / width * form.width))
        scale = (wide / width, high / height)
        offset = (round((form.width - wide) * 0.5), round((form.height - high) * 0.5))
    else:
        factor = max(form.width / width, form.height / height)
        scale = (factor, factor)
        offset = ((form.width - width * factor) / 2, (form.height - height * factor) / 2)
    moved = boxes.astype(np.float64).copy()
    moved[:, 1:] = moved[:, 1:] * np.array(scale * 2) + np.array(offset * 2)
    whole = _areas(moved)
    moved[:, 1:] = moved[:, 1:].clip(0, np.array([form.width, form.height] * 2))
    return moved[_areas(moved) >= np.maximum(1e-9, _LEAST_SHARE * whole)].astype(np.float32)


def _areas(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 3:] - boxes[:, 1:3]).clip(0).prod(1)


def _padded(boxes: Sequence[np.ndarray]) -> np.ndarray:
    """Return all boxes in one array, rows of -1 where an image has fewer: float32 [N, M, 5]."""
    made = np.full((len(boxes), max([1, *map(len, boxes)]), 5), -1, np.float32)
    for row, each in enumerate(boxes):
        made[row, : len(each)] = each
    return made
