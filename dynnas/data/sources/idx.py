"""IDX files, the format of MNIST and Fashion-MNIST (http://yann.lecun.com/exdb/mnist), gzipped or not."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from dynnas.data.raw import Labelled, RawData, numbered
from dynnas.errors import DataError

FILES = tuple(
    f"{part}-{content}-ubyte" for part in ("train", "t10k") for content in ("images-idx3", "labels-idx1")
)
_UNSIGNED_BYTES = 8  # the type code in the third byte of an IDX file


def recognises(folder: Path) -> bool:
    """Return whether any of the four files is in `folder`, in any of their usual spellings."""
    return any(_present(folder, file) for file in FILES)


def read(folder: Path, name: str, class_names: tuple[str, ...] = ()) -> RawData:
    """Read the four IDX files in `folder`; classes are named by the labels that occur.

    Args:
        class_names: other names of the classes from 0 on.

    Raises:
        DataError: a file is missing or damaged.
    """
    paths = [_present(folder, file) for file in FILES]
    if missing := [file for file, path in zip(FILES, paths, strict=True) if path is None]:
        raise DataError(f"{folder}: {', '.join(missing)} (or with .gz) missing; put all four files there")
    train_images, train_labels, test_images, test_labels = (_read_array(path) for path in paths if path)
    names, (train_numbers, test_numbers) = numbered(train_labels, test_labels)
    return RawData(
        name=name,
        where=str(folder),
        class_names=class_names or names,
        train=Labelled(train_images[:, None], train_numbers),
        test=Labelled(test_images[:, None], test_numbers),
    )


def _present(folder: Path, file: str) -> Path | None:
    """Return the file of that name, or under another usual name.

    Such as train-images.idx3-ubyte or emnist-letters-test-images-...
    """
    part, content, form, ending = file.split("-")
    part = "(t10k|test)" if part == "t10k" else part
    spelling = re.compile(rf"(\w+-)*{part}-{content}[-.]{form}-{ending}(\.gz)?")
    if not folder.is_dir():
        return None
    found = [path for path in sorted(folder.iterdir()) if spelling.fullmatch(path.name) and path.is_file()]
    if len({path.name.removesuffix(".gz") for path in found}) > 1:
        names = ", ".join(path.name for path in found)
        raise DataError(f"{folder}: {names} are files of several data sets; give each its own folder")
    return next(iter(found), None)


def _read_array(path: Path) -> np.ndarray:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: unreadable ({error}); fetch the file again") from error
    dimensions = 3 if "images" in path.name else 1
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, _UNSIGNED_BYTES, dimensions)) or len(content) < header:
        raise DataError(
            f"{path}: not an IDX file of bytes in {dimensions} dimension(s); fetch the file again"
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:header], ">u4"))
    if len(content) != header + math.prod(shape):
        raise DataError(
            f"{path}: {len(content) - header} bytes where {shape} needs {math.prod(shape)};"
            " fetch the file again"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
