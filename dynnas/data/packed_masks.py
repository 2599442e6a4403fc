"""An .npz of pictures with masks, both as files laid end to end.

Arrays: `train_jpeg` uint8, the bytes of all pictures; `train_jpeg_offsets` int64 [N + 1], picture i being the
bytes from offset i to offset i + 1; `train_png` and `train_png_offsets`, their masks, grey, the class of each
pixel. The same with `search_` and `test_` where there are such splits; `classes`, the names. A class called
void, ignore, ignored or unlabelled counts for nothing.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image

from dynnas.data.cache import cached
from dynnas.data.masks import NONE, fitted_mask
from dynnas.data.raw import Labelled
from dynnas.data.reading import Reading
from dynnas.data.sources import arrays, pictures
from dynnas.data.sources.pictures import DAMAGED, Form
from dynnas.errors import DataError
from dynnas.progress import Progress

_KINDS = ("jpeg", "png")
_UNCOUNTED = ("void", "ignore", "ignored", "unlabelled", "unlabeled")


@dataclass(frozen=True, eq=False)
class PackedMasks:
    """The contents of a file.

    Attributes:
        names: of the classes that count. parts: images and masks uint8 [N, H, W] by split.
    """

    names: tuple[str, ...]
    parts: Mapping[str, Labelled]


def recognises(path: Path) -> bool:
    """Return whether it is such a file, by the names of its arrays alone."""
    if path.suffix != ".npz" or not path.is_file() or not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return {"train_jpeg.npy", "train_png.npy"} <= set(archive.namelist())


def read(path: Path, reading: Reading, progress: Progress) -> PackedMasks:
    """Decode the pictures and masks, once; they are kept in the cache.

    Raises:
        DataError: an array is missing, a file in it is damaged, or a picture and its mask differ in size.
    """
    held = arrays.load(path)
    names = tuple(map(str, held["classes"])) if "classes" in held else ()
    parts = {}
    for part in ("train", "search", "test"):
        if f"{part}_jpeg" in held:
            images, masks = (_files(path, held, part, kind) for kind in _KINDS)
            if len(images) != len(masks):
                raise DataError(
                    f"{path}: {len(images)} {part} pictures but {len(masks)} masks; make it again"
                )
            parts[part] = _decoded(path, part, images, masks, reading, progress)
    uncounted = [number for number, name in enumerate(names) if name.lower() in _UNCOUNTED]
    if any(number < len(names) - len(uncounted) for number in uncounted):
        raise DataError(f"{path}: {names[uncounted[0]]!r} counts for nothing; let it be the last class")
    for number in uncounted:
        for each in parts.values():
            each.labels[each.labels == number] = NONE
    return PackedMasks(names[: len(names) - len(uncounted)], parts)


def _files(path: Path, held: Mapping[str, np.ndarray], part: str, kind: str) -> list[bytes]:
    name = f"{part}_{kind}"
    for key in (name, f"{name}_offsets"):
        if key not in held:
            raise DataError(f"{path}: no {key}; make or fetch the file again")
    content, offsets = held[name], held[f"{name}_offsets"]
    if len(offsets) < 2 or offsets[0] or offsets[-1] != len(content) or (np.diff(offsets) <= 0).any():
        raise DataError(
            f"{path}: {name}_offsets must rise from 0 to the {len(content)} bytes of {name}; make or fetch "
            "the file again"
        )
    return [content[start:end].tobytes() for start, end in pairwise(offsets)]


def _decoded(
    path: Path, part: str, images: list[bytes], masks: list[bytes], reading: Reading, progress: Progress
) -> Labelled:
    height, width = reading.size or _size(images[0], f"{path}: {part} picture 0")
    form = Form(height, width, fit=reading.fit or "crop")
    digest = hashlib.blake2b(digest_size=16)
    for content in (*images, *masks):
        digest.update(content)
    name = f"masked-{digest.hexdigest()}-{height}x{width}{form.fit}"

    def decode() -> np.ndarray:
        made = np.empty((len(images), 4, height, width), np.uint8)
        with progress.task(f"decoding {part} images", len(images)) as task:
            for row, (image, mask) in enumerate(zip(images, masks, strict=True)):
                where = f"{path}: {part} picture {row}"
                if _size(image, where) != _size(mask, f"{where}, its mask"):
                    raise DataError(f"{where}: its mask is of another size; make them alike")
                made[row, :3] = pictures.decode(image, where, form)
                with Image.open(io.BytesIO(mask)) as opened:
                    made[row, 3] = fitted_mask(Image.fromarray(np.asarray(opened, np.uint8)), form)
                task.advance()
        return made

    both = cached(name, decode)
    return Labelled(np.ascontiguousarray(both[:, :3]), np.array(both[:, 3]))


def _size(content: bytes, where: str) -> tuple[int, int]:
    """Return height and width, by the header."""
    try:
        with Image.open(io.BytesIO(content)) as opened:
            return opened.height, opened.width
    except DAMAGED as error:
        raise DataError(f"{where}: not a readable image ({error}); make or fetch the file again") from error
