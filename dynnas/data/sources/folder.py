"""A folder with one folder of pictures for each class, or with such folders under those of its splits.

Splits are recognised by their names in any spelling: train or training, val, valid, validation or dev, and
test or testing. The validation split ranks candidates; without a test split it is the test split. Pictures
are turned upright, what is transparent in them becomes white, and they are brought to one size. Unless
another is asked for, they are cut to their central square, whose side is the median of their shorter sides,
at most 224. They are read as grey where all of them are, else as RGB. What fits is decoded once and held in
memory; more than that is decoded whenever it is needed.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.cache import cached
from dynnas.data.raw import Labelled, RawData
from dynnas.data.reading import Reading
from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.data.streaming.files import PictureFiles
from dynnas.data.streaming.images import StreamedImages
from dynnas.data.streaming.store import RowStore
from dynnas.errors import DataError
from dynnas.progress import Progress

_SUFFIXES = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
_HIGHEST_RESOLUTION = 224
_SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "search": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_NOT_DATA = ("@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found")
"""Folders that systems leave behind, in lower case; and any whose name begins with a dot."""
_NOT_PICTURES = ("thumbs.db", "desktop.ini", "readme.md", "readme.txt")
_TABLES = (".csv", ".tsv", ".json")
_CACHE_FORM = "folder-3"
_NAMED = 10
"""Broken pictures that are named in one message."""


@dataclass(frozen=True)
class _Place:
    """A folder with folders of classes, as it was walked through once."""

    root: Path
    classes: Mapping[str, tuple[Path, ...]]
    left_out: tuple[Path, ...]


def recognises(folder: Path) -> bool:
    """Return whether there is a picture in a folder below `folder`."""
    return any(map(_has_pictures, _folders(folder)))


def read(folder: Path, progress: Progress, reading: Reading | None = None) -> RawData:
    """Read the data set in `folder`.

    Args:
        folder: of the pictures. progress: is told how far it is.
        reading: the size of the images, and how much may lie in memory.

    Raises:
        DataError: a picture is damaged or a link leads nowhere, the test pictures are of other classes, or
            what looks like splits has no folders of classes.
    """
    reading = reading or Reading()
    roots = _split_roots(folder)
    places = {part: _place(root) for part, root in roots.items()}
    names = tuple(places["train"].classes)
    _check_layout(folder, places["train"])
    files: list[Path] = []
    labels: list[int] = []
    spans: dict[str, slice] = {}
    for part, place in places.items():
        start = len(files)
        for label, name in enumerate(_known(place, names)):
            found = place.classes.get(name, ())
            files += found
            labels += [label] * len(found)
        spans[part] = slice(start, len(files))
    numbers = np.array(labels, np.int64)
    stats = _stats(files)
    digest = _digest(folder, files, stats)
    listed = cached(f"listed-{digest}", lambda: _listed(files, progress))
    form = _form(listed, reading)
    images: np.ndarray | StreamedImages
    if math.prod((len(files), *form.shape)) > reading.memory_bytes:
        images = StreamedImages(RowStore(PictureFiles.of(files, stats, form)), np.arange(len(files)))
    else:
        name = f"{_CACHE_FORM}-{digest}-{form.height}x{form.width}{form.fit}{'' if form.grey else 'x3'}"
        images = cached(name, lambda: _decode(files, form, progress))
    parts = {part: Labelled(images[span], numbers[span], listed[span, 2]) for part, span in spans.items()}
    return RawData(
        name=folder.resolve().name,
        where=str(folder),
        class_names=names,
        train=parts["train"],
        test=parts.get("test"),
        search=parts.get("search"),
        left_out=_told(folder, roots, places.values()),
    )


def _form(listed: np.ndarray, reading: Reading) -> Form:
    sides, greys = listed[:, 0], listed[:, 1]
    side = min(_HIGHEST_RESOLUTION, int(np.median(sides)))
    height, width = reading.size or (side, side)
    return Form(height, width, bool(greys.all()), reading.fit)


def _split_roots(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; the whole folder is `train` if it is not split."""
    named = {path: _split_of(path.name) for path in _folders(folder)}
    found: dict[str, Path] = {}
    for path, part in named.items():
        if part and _folders(path):  # a `train` without folders of its own is a class: of vehicles, say
            if part in found:
                raise DataError(
                    f"{folder}: {found[part].name} and {path.name} are both the {part} split; keep one"
                )
            found[part] = path
    if "train" in found:
        if "search" in found and "test" not in found:
            found["test"] = found.pop("search")
        return {part: found[part] for part in ("train", "search", "test") if part in found}
    if len(named) > 1 and all(_split_of(path.name.rstrip("0123456789")) for path in named):
        raise DataError(
            f"{folder}: {', '.join(path.name for path in named)} are splits, but none for training has "
            "folders of classes; make one folder of pictures for each class in train/"
        )
    return {"train": folder}


def _split_of(name: str) -> str | None:
    return next((part for part, names in _SPLITS.items() if name.lower() in names), None)


def _place(root: Path) -> _Place:
    classes, left_out = {}, []
    for folder in _folders(root):
        found = []
        for path in _walk(folder):
            if path.suffix.lower() not in _SUFFIXES:
                left_out.append(path)
            elif not path.exists():
                raise DataError(f"{path}: a link to a file that is not there; mend or remove it")
            else:
                found.append(path)
        classes[folder.name] = tuple(found)
    return _Place(root, classes, tuple(left_out))


def _check_layout(folder: Path, train: _Place) -> None:
    """Name the cause where there is only one folder, which is not a class.

    Raises:
        DataError: it holds folders of classes itself, or all pictures beside a table of labels.
    """
    if len(train.classes) != 1:
        return
    (only,) = train.classes
    inside = _folders(train.root / only)
    if sum(map(_has_pictures, inside)) > 1:
        raise DataError(
            f"{train.root}: there is only one folder, {only!r}, and the folders of classes lie in it; "
            f"give {train.root / only}"
        )
    tables = sorted(
        path.name for path in folder.iterdir() if path.suffix.lower() in (".csv", ".tsv", ".json")
    )
    if tables:
        raise DataError(
            f"{folder}: all pictures lie in one folder, {only!r}, and labels in {', '.join(tables)} are not "
            "read; make one folder of pictures for each class"
        )


def _known(place: _Place, names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name, found in place.classes.items() if name not in names and found]:
        raise DataError(
            f"{place.root}: no training images for {', '.join(map(repr, unknown))}; the classes are"
            f" {', '.join(names)}. Rename or remove the folder"
        )
    return names


def _told(folder: Path, roots: Mapping[str, Path], places: Iterable[_Place]) -> str:
    """Say in words what lies there and was not read; empty if nothing was left."""
    ends = Counter(path.suffix.lower() or "no ending" for place in places for path in place.left_out)
    told = [f"{number} {'file' if number == 1 else 'files'} ({end})" for end, number in ends.most_common()]
    if "train" in roots and roots["train"] != folder:
        used = {root.name for root in roots.values()}
        told += [f"the folder {path.name}" for path in _folders(folder) if path.name not in used]
    return ", ".join(told)


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in _SUFFIXES for path in _walk(folder))


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and _is_data(path.name))


def _walk(root: Path) -> Iterator[Path]:
    """Yield every file below `root` that is not a system's own, in the order of names; folders that link
    back, once.
    """
    seen: set[Path] = set()

    def inside(folder: Path) -> Iterator[Path]:
        real = folder.resolve()
        if real in seen:
            return
        seen.add(real)
        for path in sorted(folder.iterdir()):
            if not _is_data(path.name):
                continue
            if path.is_dir():
                yield from inside(path)
            elif path.name.lower() not in _NOT_PICTURES:
                yield path

    yield from inside(root)


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_DATA


def _stats(files: list[Path]) -> np.ndarray:
    """Return the size in bytes and time of change in nanoseconds of each file, int64 [N, 2]."""
    stats = [path.stat() for path in files]
    return np.array([(stat.st_size, stat.st_mtime_ns) for stat in stats], np.int64).reshape(-1, 2)


def _digest(folder: Path, files: list[Path], stats: np.ndarray) -> str:
    """Return a digest of the path, size and time of change of every file."""
    digest = hashlib.blake2b(stats.tobytes(), digest_size=16)
    digest.update(os.fsencode(folder.resolve()))
    for path in files:  # which all begin with the folder; resolving each would take longer than all else
        digest.update(os.fsencode(path)[len(os.fsencode(folder)) :] + b"\0")
    return digest.hexdigest()


def _listed(files: list[Path], progress: Progress) -> np.ndarray:
    """Return the shorter side, whether it is grey, and a digest of each picture: int64 [N, 3].

    Raises:
        DataError: some are no pictures; all of them are named together.
    """
    rows, broken = np.zeros((len(files), 3), np.int64), []
    with progress.task("listing pictures", len(files)) as task:
        for row, path in enumerate(files):
            try:
                content = path.read_bytes()
                side, grey = pictures.measure(io.BytesIO(content), path)
                digest = hashlib.blake2b(content, digest_size=8).digest()
                rows[row] = side, grey, int.from_bytes(digest, signed=True)
            except (DataError, OSError) as error:
                broken.append(str(error))
            task.advance()
    _refuse(broken)
    return rows


def _refuse(broken: list[str]) -> None:
    if broken:
        more = f"\nand {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise DataError("\n".join(broken[:_NAMED]) + more)


def _decode(files: list[Path], form: Form, progress: Progress) -> np.ndarray:
    images, broken = np.empty((len(files), *form.shape), np.uint8), []
    with progress.task("decoding images", len(files)) as task:
        for row, path in enumerate(files):
            try:
                images[row] = pictures.read(path, form)
            except DataError as error:
                broken.append(str(error))
            task.advance()
    _refuse(broken)
    return images
