"""The columns of a table: .npz, .csv, .tsv or .parquet."""

from __future__ import annotations

import csv
import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.errors import StudyError, nearest, require
from dynnas.files import separator_of

SUFFIXES = (".npz", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class TableFile:
    """A table in memory.

    Attributes:
        path: where it was read.
        columns: arrays of equal length by name; of an .npz also matrices, whose columns are called `name[0]`.
        digest: of the file's bytes.
    """

    path: Path
    columns: Mapping[str, np.ndarray]
    digest: str

    @staticmethod
    def read(path: Path) -> TableFile:
        """Read a file, by its suffix.

        Raises:
            StudyError: it cannot be read, or is no table.
            MissingExtraError: pandas or pyarrow is not installed and the file is .parquet.
        """
        suffix = path.suffix.lower()
        if suffix not in SUFFIXES:
            raise StudyError(f"table: {path} is none of {', '.join(SUFFIXES)}; convert it to one of these")
        readers = {".npz": _read_npz, ".csv": _read_csv, ".tsv": _read_csv, ".parquet": _read_parquet}
        try:
            data = path.read_bytes()
            columns = readers[suffix](path)
        except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            raise StudyError(f"table: {path} cannot be read: {reason}") from error
        if not columns:
            raise StudyError(f"table: {path} has no columns of one length; every row is an architecture")
        if not len(next(iter(columns.values()))):
            raise StudyError(f"table: {path} has column names, but no rows; every row is an architecture")
        return TableFile(path, columns, hashlib.sha256(data).hexdigest()[:16])

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return len(next(iter(self.columns.values())))

    def column(self, name: str, what: str) -> np.ndarray:
        """Return a column by name, [rows] or [rows, columns]; `what` it is for, in messages.

        Raises:
            StudyError: there is none.
        """
        if name in self.columns:
            return self.columns[name]
        start, bracket, rest = name.partition("[")
        matrix = self.columns.get(start)
        place = rest.removesuffix("]")
        if bracket and matrix is not None and matrix.ndim == 2 and place.isdigit():
            if int(place) < matrix.shape[1]:
                return matrix[:, int(place)]
            raise StudyError(f"table: {start!r} has {matrix.shape[1]} columns; {name!r} is not among them")
        raise StudyError(
            f"table: {self.path} has no column {name!r} for {what}{nearest(name, self.columns)}; "
            f"it has {', '.join(self.columns)}"
        )


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    # Names of values and the like have another length; the table is what most arrays agree on.
    tables = {name: array for name, array in arrays.items() if array.ndim in (1, 2)}
    lengths = [len(array) for array in tables.values()]
    rows = max(set(lengths), key=lambda length: (lengths.count(length), length), default=0)
    return {name: array for name, array in tables.items() if len(array) == rows}


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        separator = separator_of(path, file.readline())
        file.seek(0)
        header, *rows = list(csv.reader(file, delimiter=separator)) or [[]]
    if twice := sorted({name for name in header if header.count(name) > 1}):
        raise ValueError(
            f"several columns are called {', '.join(map(repr, twice))}; rename or remove all but one"
        )
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise ValueError(f"line {number} has {len(row)} fields, the first {len(header)}")
    return {name: _typed([row[at] for row in rows]) for at, name in enumerate(header)}


def _typed(texts: list[str]) -> np.ndarray:
    """Return whole numbers, numbers (an empty cell is nan) or texts, whichever fits all."""
    for kind in (int, float):
        try:
            return np.array([kind(text) if text or kind is int else np.nan for text in texts])
        except (ValueError, OverflowError):
            continue
    return np.array(texts)


def _read_parquet(path: Path) -> dict[str, np.ndarray]:
    require("pyarrow", "tables")
    pandas = require("pandas", "tables")
    frame = pandas.read_parquet(path)
    return {str(name): _plain(frame[name].to_numpy()) for name in frame.columns}


def _plain(column: np.ndarray) -> np.ndarray:
    """Return texts in numpy's own type, which compare like those of other files."""
    return column.astype(str) if column.dtype == object else column
