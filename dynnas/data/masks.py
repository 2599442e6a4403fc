"""Folders of pictures and of masks, for segmentation: `images/a.jpg` beside `masks/a.png`.

Both lie in the folder, or in one for each split (train, val and test in any spelling). A mask is a PNG of one
channel that holds the class of each pixel, 255 where none counts. `classes.txt` may name the classes, one a
line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from dynnas.data.sources.names import split_of
from dynnas.data.sources.pictures import DAMAGED, SUFFIXES, Form, upright_size
from dynnas.errors import DataError

_IMAGES = ("images", "image", "imgs")
_MASKS = ("masks", "mask", "labels", "annotations")
NONE = 255


@dataclass(frozen=True, eq=False)
class Masked:
    """Pictures and masks as they were found.

    Attributes:
        names: of the classes; empty if the folder does not name them.
        parts: pairs of a picture and its mask, by split; `train` is among them.
        left_out: what lies there and was not read, in words.
    """

    names: tuple[str, ...]
    parts: Mapping[str, list[tuple[Path, Path]]]
    left_out: str


def recognises(folder: Path) -> bool:
    """Return whether there are pictures and masks in it, or in the folder of a split."""
    return bool(_roots(folder))


def find(folder: Path) -> Masked:
    """Pair the pictures and masks in a folder.

    Raises:
        DataError: a picture has no mask, or there is no training split.
    """
    roots, parts, alone = _roots(folder), {}, 0
    for part, (images, masks) in roots.items():
        by_stem = {path.stem: path for path in _files(masks) if path.suffix.lower() == ".png"}
        pictures = [path for path in _files(images) if path.suffix.lower() in SUFFIXES]
        if missing := [path for path in pictures if path.stem not in by_stem]:
            raise DataError(
                f"{missing[0]}: no mask {masks / missing[0].stem}.png (nor of {len(missing) - 1} others); "
                "add it, or remove the picture"
            )
        parts[part] = [(path, by_stem[path.stem]) for path in pictures]
        alone += len(by_stem) - len(pictures)
    if not parts.get("train"):
        raise DataError(f"{folder}: there are no training pictures; put them in train/images and train/masks")
    if "search" in parts and "test" not in parts:
        parts["test"] = parts.pop("search")
    file = folder / "classes.txt"
    names = tuple(file.read_text(encoding="utf-8").split("\n")) if file.is_file() else ()
    told = f"{alone} masks without a picture" if alone else ""
    return Masked(tuple(name.strip() for name in names if name.strip()), parts, told)


def _files(folder: Path) -> list[Path]:
    """Return what lies in a folder, without the files that macOS writes beside others."""
    return sorted(path for path in folder.iterdir() if not path.name.startswith("._"))


def read_masks(pairs: list[tuple[Path, Path]], form: Form) -> np.ndarray:
    """Bring masks to a form as pictures are, the nearest pixel taken: uint8 [N, H, W].

    Raises:
        DataError: one cannot be read, has colours, or another size than its picture.
    """
    made = np.empty((len(pairs), form.height, form.width), np.uint8)
    for row, (picture, path) in enumerate(pairs):
        try:
            with Image.open(picture) as image, Image.open(path) as mask:
                if mask.mode not in ("L", "P", "1"):
                    raise DataError(
                        f"{path}: a mask of mode {mask.mode}; save the class of each pixel as 8 bits"
                    )
                size = upright_size(image)
                if mask.size != size:
                    turned = ", turned as its EXIF orientation says" if mask.size == image.size else ""
                    raise DataError(
                        f"{path}: {mask.size} pixels, but its picture has {size}{turned}; make them alike"
                    )
                grey = Image.fromarray(np.asarray(mask, np.uint8))
        except DAMAGED as error:
            raise DataError(f"{path}: not a readable mask ({error}); replace or remove it") from error
        made[row] = fitted_mask(grey, form)
    return made


def check_classes(folder: Path, masks: np.ndarray) -> None:
    """Check that training masks, uint8 [N, H, W], hold more than one class.

    Raises:
        DataError: they hold one, or none.
    """
    values = np.unique(masks)
    if len(values[values != NONE]) < 2:
        told = " and ".join(map(str, values.tolist()))
        raise DataError(
            f"{folder}: training masks hold only {told}, and {NONE} counts for nothing; save the number of "
            "the class of each pixel: 0 for the background and 1 for what is in front"
        )


def fitted_mask(grey: Image.Image, form: Form) -> np.ndarray:
    """Bring a mask to a form, the nearest pixel taken: uint8 [H, W]."""
    size, nearest = (form.width, form.height), Image.Resampling.NEAREST
    if form.fit == "crop":
        grey = ImageOps.fit(grey, size, nearest)
    elif form.fit == "pad":
        grey = ImageOps.pad(grey, size, nearest, color=NONE)
    else:
        grey = grey.resize(size, nearest)
    return np.asarray(grey)


def _roots(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of pictures and masks of each split."""
    if not folder.is_dir():
        return {}
    if pair := _pair(folder):
        return {"train": pair}
    found = {}
    for path in sorted(folder.iterdir()):
        part = split_of(path.name)
        if part and (pair := _pair(path)):
            found[part] = pair
    return found


def _pair(folder: Path) -> tuple[Path, Path] | None:
    images, masks = (
        next((folder / name for name in names if (folder / name).is_dir()), None)
        for names in (_IMAGES, _MASKS)
    )
    return (images, masks) if images and masks and any(masks.glob("*.png")) else None
