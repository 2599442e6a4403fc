"""Picture files that are decoded to one form, each whenever it is asked for. Free of torch, for workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.errors import DataError


@dataclass(frozen=True, eq=False)
class PictureFiles:
    """The paths of picture files, and what they were like when they were listed.

    The paths lie in one string of bytes: a list of objects would be copied page by page wherever a process
    touches it, and takes ten times the space.

    Attributes:
        form: the shape that every picture is decoded to.
        names: all paths, one after the other.
        ends: int64 [N], where each path ends.
        facts: int64 [N, 2], size in bytes and time of change in nanoseconds of each.
    """

    form: Form
    names: bytes
    ends: np.ndarray
    facts: np.ndarray

    @classmethod
    def of(cls, paths: Sequence[Path], facts: np.ndarray, form: Form) -> PictureFiles:
        """List the files at `paths`, with the size and time of change of each, int64 [N, 2]."""
        encoded = [os.fsencode(path) for path in paths]
        ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        return cls(form, b"".join(encoded), ends, facts)

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of a decoded picture."""
        return self.form.shape

    def path(self, row: int) -> Path:
        """Return the path of picture `row`."""
        start = int(self.ends[row - 1]) if row else 0
        return Path(os.fsdecode(self.names[start : int(self.ends[row])]))

    def read(self, row: int) -> np.ndarray:
        """Decode picture `row`: uint8 [C, H, W].

        Raises:
            DataError: it is damaged, gone, or not what it was when the files were listed.
        """
        path = self.path(row)
        try:
            stat = path.stat()
        except OSError as error:
            raise DataError(
                f"{path}: it was there when the data were listed and cannot be read now ({error.strerror}); "
                "restore it, or start again to list the folder as it is"
            ) from error
        if (stat.st_size, stat.st_mtime_ns) != tuple(self.facts[row].tolist()):
            raise DataError(
                f"{path}: it has changed since the data were listed; restore it, or start again to list the "
                "folder as it is"
            )
        return pictures.read(path, self.form)
