"""A .csv or .tsv with the path of a picture in each row, and its class, labels or numbers.

Cells of a .csv are separated by commas, semicolons or tabs, as the line of the columns tells.
The path, relative to the table or to a folder beside it, lies in a column called path, file, filename,
file_name, image or image_path.
A column split, set or subset says train, val or test. The class lies in a column label, class, target,
category or labels. For the task multi_label there is a column of 0 and 1 for each label, or one that holds
labels with ";" or "|" between them; for regression every other column is a number.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.sources.labelled import LabelledFiles
from dynnas.data.sources.names import split_of
from dynnas.errors import DataError
from dynnas.files import separator_of

_PATHS = ("path", "file", "filename", "file_name", "image", "image_path")
_SPLITS = ("split", "set", "subset")
_LABELS = ("label", "class", "target", "category", "labels")


@dataclass(frozen=True, eq=False)
class Table:
    """The contents of a table.

    Attributes:
        names: of classes, labels or numbers.
        parts: files with labels int64 [N], or float32 [N, names], by split; `train` is among them.
        left_out: what lies there and was not read, in words.
    """

    names: tuple[str, ...]
    parts: Mapping[str, LabelledFiles]
    left_out: str = ""


def recognises(path: Path) -> bool:
    """Return whether it is a file with such an ending."""
    return path.is_file() and path.suffix.lower() in (".csv", ".tsv")


def read(path: Path, task: str) -> Table:
    """Read the table at `path` for the task of that name.

    Raises:
        DataError: a column is missing, a row has no picture or another form, a picture is there twice and
            not alike, or no row is to train on.
    """
    given, columns = _rows(path)
    where = _column(columns, _PATHS)
    if where is None:
        raise DataError(f"{path}: no column for the picture; name it {', '.join(_PATHS)}")
    split, label = _column(columns, _SPLITS), _column(columns, _LABELS)
    others = [name for name in columns if name not in (where, split)]
    rows = _once(path, given, where)
    root = _root(path.parent, rows[0][where])
    files = [_file(root, row[where]) for row in rows]
    if missing := [file for file in files if not file.is_file()]:
        more = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise DataError(f"{path}: {missing[0]} is not there{more}; paths are relative to the table")
    if task == "classification":
        names, labels = _classes(path, rows, label)
    elif task == "multi_label" and label is not None:
        names, labels = _separated(row[label] for row in rows)
    else:
        names, labels = tuple(others), _numbers(path, rows, others)
    of_rows = ["train" if split is None else _part(path, row[split]) for row in rows]
    parts = {}
    for part in ("train", "search", "test"):
        chosen = [row for row, own in enumerate(of_rows) if own == part]
        if chosen:
            parts[part] = LabelledFiles([files[row] for row in chosen], labels[chosen])
    if "train" not in parts:
        raise DataError(f"{path}: no row is of the training split; say train in the column {split}")
    if "search" in parts and "test" not in parts:
        parts["test"] = parts.pop("search")
    again = len(given) - len(rows)
    return Table(names, parts, f"{again} lines that name a picture again" if again else "")


def _rows(path: Path) -> tuple[list[dict[str, str]], list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = separator_of(path, file.readline())
            file.seek(0)
            reader = csv.DictReader(file, delimiter=separator, strict=True)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a readable table ({error}); save it as UTF-8") from error
    if not rows:
        raise DataError(f"{path}: no rows; the first line names the columns, and each other one is a picture")
    columns = list(reader.fieldnames or ())
    if twice := sorted({name for name in columns if name and columns.count(name) > 1}):
        raise DataError(
            f"{path}: several columns are called {', '.join(twice)}; rename or remove all but one"
        )
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise DataError(f"{path}, line {number}: not as many cells as columns; mend the line")
    return rows, list(rows[0])


def _once(path: Path, rows: Sequence[dict[str, str]], where: str) -> list[dict[str, str]]:
    """Return the rows with each picture once.

    Raises:
        DataError: two rows say different things of a picture.
    """
    known: dict[str, tuple[int, dict[str, str]]] = {}
    for number, row in enumerate(rows, start=2):
        first, said = known.setdefault(row[where], (number, row))
        # A column without a name counts the rows, as pandas writes it.
        if {**row, "": ""} != {**said, "": ""}:
            raise DataError(
                f"{path}, line {number}: {row[where]} is in line {first} already, with other cells; keep one "
                "of the two (several labels of a picture go into one line, with ';' between them)"
            )
    return [row for _, row in known.values()]


def _root(folder: Path, first: str) -> Path:
    """Return the folder to which paths are relative: the table's own, or one in it with the first."""
    inside = [each for each in sorted(folder.iterdir()) if each.is_dir() and _file(each, first).is_file()]
    return inside[0] if len(inside) == 1 and not _file(folder, first).is_file() else folder


def _file(folder: Path, text: str) -> Path:
    """Return the path of a picture, which may be written with the backslashes of Windows."""
    found = folder / text
    return found if "\\" not in text or found.exists() else folder / text.replace("\\", "/")


def _column(columns: Sequence[str], names: Sequence[str]) -> str | None:
    return next((column for name in names for column in columns if column.strip().lower() == name), None)


def _part(path: Path, text: str) -> str:
    part = split_of(text.strip())
    if part is None:
        raise DataError(f"{path}: the split {text!r} is not known; say train, val or test")
    return part


def _classes(
    path: Path, rows: Sequence[Mapping[str, str]], label: str | None
) -> tuple[tuple[str, ...], np.ndarray]:
    if label is None:
        raise DataError(
            f"{path}: no column for the class; name it {', '.join(_LABELS)}, or say data.task: regression or "
            "multi_label"
        )
    texts = [row[label].strip() for row in rows]
    if empty := texts.count(""):
        raise DataError(
            f"{path}: {empty} of {len(rows)} lines have no {label}; say the class of each picture, or remove "
            "the lines"
        )
    # Numbered classes in the order of their numbers.
    names = sorted(set(texts), key=lambda text: (0, int(text), text) if text.isdecimal() else (1, 0, text))
    numbers = {name: number for number, name in enumerate(names)}
    return tuple(names), np.array([numbers[text] for text in texts], np.int64)


def _separated(cells: Iterable[str]) -> tuple[tuple[str, ...], np.ndarray]:
    sets = [{text.strip() for text in re.split(r"[;|]", cell) if text.strip()} for cell in cells]
    names = tuple(sorted(set.union(*sets)))
    return names, np.array([[name in one for name in names] for one in sets], np.float32)


def _numbers(path: Path, rows: Sequence[Mapping[str, str]], columns: Sequence[str]) -> np.ndarray:
    if not columns:
        raise DataError(f"{path}: no column beside that of the picture; add one for each number or label")
    made = np.empty((len(rows), len(columns)), np.float32)
    for number, row in enumerate(rows):
        for place, column in enumerate(columns):
            try:
                made[number, place] = float(row[column])
            except ValueError as error:
                raise DataError(
                    f"{path}, line {number + 2}: {column} is {row[column]!r}, not a number"
                ) from error
    return made
