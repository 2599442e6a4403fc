"""Pascal VOC: `JPEGImages`, an XML file for each in `Annotations`, and lists under `ImageSets/Main`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from dynnas.data.boxes.annotated import Annotated, Picture
from dynnas.errors import DataError

_IMAGES, _ANNOTATIONS, _LISTS = "JPEGImages", "Annotations", Path("ImageSets", "Main")


def recognises(folder: Path) -> bool:
    """Return whether the two folders are there."""
    return (folder / _IMAGES).is_dir() and (folder / _ANNOTATIONS).is_dir()


def read(folder: Path) -> Annotated:
    """Read the data set in `folder`; the lists of train, val and test are its splits.

    Without lists all pictures with an annotation are taken, and the splits are drawn. Things that are marked
    as difficult are left out, as VOC does not count them.

    Raises:
        DataError: an annotation is missing or damaged, or a list names a picture that is not there.
    """
    inside = sorted(path for path in (folder / _IMAGES).iterdir() if not path.name.startswith("."))
    files = {path.stem: path for path in inside if path.is_file()}
    listed = _lists(folder, files)
    roots = {
        name: _parsed(folder / _ANNOTATIONS / f"{name}.xml") for part in listed.values() for name in part
    }
    objects = {name: _objects(folder / _ANNOTATIONS / f"{name}.xml", root) for name, root in roots.items()}
    counts = Counter(kind for each in objects.values() for kind, _, _ in each)
    names = tuple(sorted(counts))
    if not names:
        raise DataError(f"{folder}: no annotation has a box")
    splits = {
        part: [Picture(files[name], _boxes(objects[name], names), _size(roots[name])) for name in chosen]
        for part, chosen in listed.items()
    }
    difficult = sum(hard for each in objects.values() for *_, hard in each)
    flat = sum(
        corners[2] < corners[0] or corners[3] < corners[1]
        for each in objects.values()
        for _, corners, hard in each
        if not hard
    )
    unlisted = len(files) - len(objects)
    told = [
        *([f"{unlisted} pictures that no list names"] if unlisted else []),
        *([f"{difficult} boxes that are marked as difficult"] if difficult else []),
        *([f"{flat} boxes that end before they begin"] if flat else []),
    ]
    return Annotated(folder.resolve().name, str(folder), names, splits, ", ".join(told))


def _lists(folder: Path, files: Mapping[str, Path]) -> dict[str, Sequence[str]]:
    """Return the names of the pictures of each split."""
    found: dict[str, Sequence[str]] = {}
    for part, spellings in (("train", ("train",)), ("search", ("val", "valid")), ("test", ("test",))):
        for spelling in spellings:
            path = folder / _LISTS / f"{spelling}.txt"
            if path.is_file():
                found[part] = path.read_text(encoding="utf-8").split()
    if "train" not in found:
        annotated = {path.stem for path in (folder / _ANNOTATIONS).glob("*.xml")}
        found = {"train": [name for name in files if name in annotated]}
    elif "search" in found and "test" not in found:
        found["test"] = found.pop("search")
    seen: dict[str, str] = {}
    for part, names in found.items():
        for name in names:
            if name not in files:
                raise DataError(
                    f"{folder / _LISTS}: the {part} list names {name!r}, but {folder / _IMAGES} has no such "
                    "picture; restore it, or take it off the list"
                )
            if seen.setdefault(name, part) != part:
                raise DataError(f"{folder / _LISTS}: {name!r} is in {seen[name]} and in {part}; keep one")
    return found


def _parsed(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception | str) -> DataError:
    return DataError(f"{path}: not a readable annotation ({error}); mend it, or unlist the picture")


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Return width and height as an annotation says them; None if it does not."""
    told = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    return (int(told[0]), int(told[1])) if all(text.isdecimal() for text in told) else None


def _objects(path: Path, root: ElementTree.Element) -> list[tuple[str, tuple[float, ...], bool]]:
    """Return class, corners as written, and whether it is difficult, of each thing in an annotation."""
    if any(not thing.findtext("name", "").strip() for thing in root.iter("object")):
        raise _unreadable(path, "an object has no name")
    try:
        return [
            (
                thing.findtext("name", "").strip(),
                tuple(
                    float(thing.findtext(f"bndbox/{side}", "")) for side in ("xmin", "ymin", "xmax", "ymax")
                ),
                thing.findtext("difficult", "0").strip() == "1",
            )
            for thing in root.iter("object")
        ]
    except ValueError as error:
        raise _unreadable(path, error) from error


def _boxes(objects: Sequence[tuple[str, tuple[float, ...], bool]], names: Sequence[str]) -> np.ndarray:
    """Return the boxes with pixels counted from 0: VOC counts from 1, and the last pixel is inside."""
    rows = [
        (names.index(kind), corners[0] - 1, corners[1] - 1, corners[2], corners[3])
        for kind, corners, difficult in objects
        if not difficult
    ]
    return np.array(rows, np.float64).reshape(-1, 5)
