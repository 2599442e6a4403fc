"""A folder with one folder of pictures for each class, or with such folders under those of its splits.

Splits are recognised by their names in any spelling: train or training, val, valid, validation or dev,
and test, testing, eval or holdout. The validation split ranks candidates; without a test split it is the
test split. Pictures are turned upright, what is transparent in them becomes white, and they are brought to
one size. Unless another is asked for, they are cut to their central square, whose side is the median of
their shorter sides, at most 224. They are read as grey where all of them are, else as RGB. What fits is
decoded once and held in memory; more than that is decoded whenever it is needed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.raw import RawData
from dynnas.data.reading import Reading
from dynnas.data.sources.labelled import LabelledFiles, read_labelled
from dynnas.data.sources.names import split_of
from dynnas.data.sources.pictures import SUFFIXES
from dynnas.errors import DataError
from dynnas.progress import Progress

_NOT_DATA = ("@eadir", "__macosx", "#recycle", "$recycle.bin", "lost+found")
"""Folders that systems leave behind, in lower case. What begins with a dot is no data either."""
_OF_PROGRAMS = (
    *(".ds_store", ".git", ".svn", ".hg", ".dvc", ".ipynb_checkpoints", ".cache", ".idea", ".vscode"),
    *(".thumbnails", ".trashes", ".appledouble", ".spotlight-v100", ".fseventsd", ".temporaryitems"),
)
_BEGINNINGS_OF_PROGRAMS = ("._", ".trash", ".nfs", ".fuse_hidden", ".~")
"""Names with a dot that are nobody's data, in lower case; other hidden pictures are said to be left out."""
_NOT_PICTURES = ("thumbs.db", "desktop.ini", "readme.md", "readme.txt")


@dataclass(frozen=True)
class _Place:
    """A folder with folders of classes, as it was walked through once."""

    root: Path
    classes: Mapping[str, tuple[Path, ...]]
    left_out: tuple[Path, ...]
    hidden: tuple[Path, ...]


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
    roots = _split_roots(folder)
    places = {part: _place(root) for part, root in roots.items()}
    names = tuple(places["train"].classes)
    _check_layout(folder, places["train"])
    _tell_alike(folder, places["train"], progress)
    found = {}
    for part, place in places.items():
        files: list[Path] = []
        labels: list[int] = []
        for label, name in enumerate(_known(place, names)):
            pictures = place.classes.get(name, ())
            files += pictures
            labels += [label] * len(pictures)
        found[part] = LabelledFiles(files, np.array(labels, np.int64))
    parts = read_labelled(folder, found, reading or Reading(), progress)
    return RawData(
        name=folder.resolve().name,
        where=str(folder),
        class_names=names,
        train=parts["train"],
        test=parts.get("test"),
        search=parts.get("search"),
        left_out=_told(folder, roots, places.values()),
    )


def _split_roots(folder: Path) -> dict[str, Path]:
    """Return the folder of each split; the whole folder is `train` if it is not split."""
    named = {path: split_of(path.name) for path in _folders(folder)}
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
    if len(named) > 1 and all(split_of(path.name.rstrip("0123456789")) for path in named):
        raise DataError(
            f"{folder}: {', '.join(path.name for path in named)} are splits, but none for training has "
            "folders of classes; make one folder of pictures for each class in train/"
        )
    return {"train": folder}


def _place(root: Path) -> _Place:
    classes, left_out, hidden = {}, [], _hidden_folders(root)
    for folder in _folders(root):
        found = []
        for path in _walk(folder, hidden):
            if path.suffix.lower() not in SUFFIXES:
                left_out.append(path)
            elif not path.exists():
                raise DataError(f"{path}: a link to a file that is not there; mend or remove it")
            else:
                found.append(path)
        classes[folder.name] = tuple(found)
    return _Place(root, classes, tuple(left_out), tuple(hidden))


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
            f"{folder}: all pictures lie in one folder, {only!r}, and labels in {', '.join(tables)}; give "
            "the table (.csv or .tsv) instead of the folder, or make one folder of pictures for each class"
        )


def _tell_alike(folder: Path, train: _Place, progress: Progress) -> None:
    """Warn where every class has folders of the same names: it may be a split, and they the classes."""
    inside = [
        sorted(path.name for path in _folders(train.root / name) if _has_pictures(path))
        for name in train.classes
    ]
    if len(inside) > 1 and len(inside[0]) > 1 and all(each == inside[0] for each in inside):
        progress.message(
            f"warning: {', '.join(train.classes)} are taken for the classes of {folder}, and each has the "
            f"folders {', '.join(inside[0])}; if those are the classes, name the others train, val and test"
        )


def _known(place: _Place, names: tuple[str, ...]) -> tuple[str, ...]:
    if unknown := [name for name, found in place.classes.items() if name not in names and found]:
        raise DataError(
            f"{place.root}: no training images for {', '.join(map(repr, unknown))}; the classes are"
            f" {', '.join(names)}. Rename or remove the folder"
        )
    return names


def _told(folder: Path, roots: Mapping[str, Path], places: Collection[_Place]) -> str:
    """Say in words what lies there and was not read; empty if nothing was left."""
    ends = Counter(path.suffix.lower() or "no ending" for place in places for path in place.left_out)
    told = [f"{number} {'file' if number == 1 else 'files'} ({end})" for end, number in ends.most_common()]
    hidden = [path for place in places for path in place.hidden]
    if "train" in roots and roots["train"] != folder:
        hidden += _hidden_folders(folder)
        used = {root.name for root in roots.values()}
        told += [f"the folder {path.name}" for path in _folders(folder) if path.name not in used]
    folders = sorted(path.name for path in hidden if path.is_dir())
    pictures = sorted(path.name for path in hidden if not path.is_dir())
    for kind, names in (("folder", folders), ("picture", pictures)):
        if names:
            told.append(f"{len(names)} hidden {kind}{'s' * (len(names) > 1)} ({names[0]})")
    return ", ".join(told)


def _has_pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in _walk(folder))


def _folders(root: Path) -> list[Path]:
    if not root.is_dir():
        return []
    return sorted(path for path in root.iterdir() if path.is_dir() and _is_data(path.name))


def _hidden_folders(root: Path) -> list[Path]:
    """Return the folders with pictures whose names begin with a dot, and which no program made."""
    named = sorted(path for path in root.iterdir() if path.name.startswith("."))
    return [path for path in named if path.is_dir() and _is_hidden_data(path)]


def _is_hidden_data(path: Path) -> bool:
    name = path.name.lower()
    if not name.startswith(".") or name in _OF_PROGRAMS or name.startswith(_BEGINNINGS_OF_PROGRAMS):
        return False
    return _has_pictures(path) if path.is_dir() else path.suffix.lower() in SUFFIXES


def _walk(root: Path, hidden: list[Path] | None = None) -> Iterator[Path]:
    """Yield every file below `root` that is not a system's own, in the order of names.

    Folders that link back are walked through once.

    Args:
        hidden: gets what looks like data but for the dot that its name begins with.
    """
    seen: set[Path] = set()

    def inside(folder: Path) -> Iterator[Path]:
        real = folder.resolve()
        if real in seen:
            return
        seen.add(real)
        for path in sorted(folder.iterdir()):
            if not _is_data(path.name):
                if hidden is not None and _is_hidden_data(path):
                    hidden.append(path)
                continue
            if path.is_dir():
                yield from inside(path)
            elif path.name.lower() not in _NOT_PICTURES:
                yield path

    yield from inside(root)


def _is_data(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in _NOT_DATA
