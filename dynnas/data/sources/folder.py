"""A folder with one folder of pictures for each class, or with such folders under train/ and test/ (or val/).

Where both test/ and val/ exist, test/ is the test set and val/ is not used. Pictures are turned upright, cut
to their central square and resized to one resolution: the median of their shorter sides, at most 224. They
are read as grey where all of them are, else as RGB.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from dynnas.data.cache import cached
from dynnas.data.raw import Labelled, RawData
from dynnas.data.sources import pictures
from dynnas.errors import DataError
from dynnas.progress import Progress

_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
_HIGHEST_RESOLUTION = 224


def recognises(folder: Path) -> bool:
    """Whether there is a picture in a folder below `folder`."""
    return any(_pictures(part) for part in _folders(folder))


def read(folder: Path, progress: Progress) -> RawData:
    """The data set in `folder`; decoded once, then kept in the cache until a file changes.

    Raises:
        DataError: a picture is damaged, or the test pictures are of other classes.
    """
    train_root, test_root = _roots(folder)
    names = tuple(part.name for part in _folders(train_root))
    train = _labelled_files(train_root, names)
    test = _labelled_files(test_root, names) if test_root else []
    files = [path for path, _ in train + test]
    images = cached(f"folder-{_digest(files)}", lambda: _decode(files, progress))
    labels = np.array([label for _, label in train + test], np.int64)
    count = len(train)
    return RawData(
        name=folder.resolve().name,
        where=str(folder),
        class_names=names,
        train=Labelled(images[:count], labels[:count]),
        test=Labelled(images[count:], labels[count:]) if test_root else None,
    )


def _roots(folder: Path) -> tuple[Path, Path | None]:
    # A `train` without folders of its own is a class: of vehicles, say.
    if not _folders(folder / "train"):
        return folder, None
    return folder / "train", next((p for p in (folder / "test", folder / "val") if _folders(p)), None)


def _labelled_files(root: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    if unknown := [part.name for part in _folders(root) if part.name not in names]:
        raise DataError(
            f"{root}: no training images for {', '.join(map(repr, unknown))}; the classes are"
            f" {', '.join(names)}. Rename or remove the folder"
        )
    return [(path, label) for label, name in enumerate(names) for path in _pictures(root / name)]


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _pictures(root: Path) -> list[Path]:
    return sorted(
        path for path in root.rglob("*") if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    )


def _digest(files: list[Path]) -> str:
    """Changes with any file's path, size or time of change; reading them all would take too long."""
    stats = [(str(path.resolve()), (stat := path.stat()).st_size, stat.st_mtime_ns) for path in files]
    return hashlib.blake2b(repr(stats).encode(), digest_size=16).hexdigest()


def _decode(files: list[Path], progress: Progress) -> np.ndarray:
    with progress.task("decoding images", 2 * len(files)) as task:
        sides, greys = [], []
        for path in files:
            side, grey = pictures.measure(path)
            sides.append(side)
            greys.append(grey)
            task.advance()
        resolution = min(_HIGHEST_RESOLUTION, int(np.median(sides)))
        images = np.empty((len(files), 1 if all(greys) else 3, resolution, resolution), np.uint8)
        for i, path in enumerate(files):
            images[i] = pictures.read(path, resolution, grey=all(greys))
            task.advance()
    return images
