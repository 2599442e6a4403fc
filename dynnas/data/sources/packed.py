"""An .npz of JPEG files laid end to end.

Arrays: `train_jpeg` uint8, the bytes of all files; `train_offsets` int64 [N + 1], image i being the bytes
from offset i to offset i + 1; `train_labels` [N], from 0; the same with `test_` if there are test images;
`classes`, their names, if they are known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dynnas.data.cache import cached
from dynnas.data.raw import Labelled, RawData
from dynnas.data.sources import pictures
from dynnas.errors import DataError
from dynnas.progress import Progress


def recognises(arrays: Mapping[str, np.ndarray]) -> bool:
    """Return whether `arrays` are those of a packed file."""
    return "train_jpeg" in arrays


def read(
    path: Path, arrays: Mapping[str, np.ndarray], progress: Progress, class_names: tuple[str, ...] = ()
) -> RawData:
    """Read the packed file at `path`, which holds `arrays`; it is decoded once, then kept in the cache.

    Classes without names in the file are called `class_names`, or by their numbers.

    Raises:
        DataError: an array is missing or does not fit the others, or an image is damaged.
    """
    name = path.stem.removesuffix("_jpeg")
    train = _read_part(path, arrays, "train", progress)
    test = _read_part(path, arrays, "test", progress) if "test_jpeg" in arrays else None
    classes = 1 + max(int(part.labels.max(initial=0)) for part in (train, test) if part)
    names = tuple(map(str, arrays["classes"])) if "classes" in arrays else class_names
    names = names or tuple(map(str, range(classes)))
    return RawData(name=name, where=str(path), class_names=names, train=train, test=test)


def _read_part(path: Path, arrays: Mapping[str, np.ndarray], part: str, progress: Progress) -> Labelled:
    for key in (f"{part}_offsets", f"{part}_labels"):
        if key not in arrays:
            raise DataError(f"{path}: has {part}_jpeg but no {key}; make or fetch the file again")
    jpeg, offsets = arrays[f"{part}_jpeg"], arrays[f"{part}_offsets"]
    if len(offsets) < 2 or offsets[0] or offsets[-1] != len(jpeg) or (np.diff(offsets) <= 0).any():
        raise DataError(
            f"{path}: {part}_offsets must rise from 0 to the {len(jpeg)} bytes of {part}_jpeg;"
            " make or fetch the file again"
        )
    contents = hashlib.blake2b(jpeg.tobytes() + offsets.tobytes(), digest_size=16).hexdigest()
    images = cached(f"jpeg-{contents}", lambda: _decode(f"{path}: {part} image", jpeg, offsets, progress))
    return Labelled(images, arrays[f"{part}_labels"].astype(np.int64))


def _decode(where: str, jpeg: np.ndarray, offsets: np.ndarray, progress: Progress) -> np.ndarray:
    count = len(offsets) - 1

    def picture(i: int) -> np.ndarray:
        return pictures.decode(jpeg[offsets[i] : offsets[i + 1]].tobytes(), f"{where} {i}")

    shape = picture(0).shape
    images = np.empty((count, *shape), np.uint8)
    with progress.task("decoding images", count) as task:
        for i in range(count):
            image = picture(i)
            if image.shape != shape:
                raise DataError(
                    f"{where} {i} is {image.shape} (channels, height, width) but image 0 is {shape};"
                    " make all alike"
                )
            images[i] = image
            task.advance()
    return images
