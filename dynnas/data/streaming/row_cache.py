"""Decoded rows kept in a file of bounded size, shared by all processes that read the same data."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

_CHECK_BYTES = 4


@dataclass(frozen=True, eq=False)
class RowCache:
    """A file with a slot for each of some rows.

    A slot is a checksum and the bytes of the row. Processes write the same bytes into the same slot, and a
    slot that is empty, half written or damaged fails its checksum, so that no lock is needed. It is read and
    not mapped: mapped pages would count as memory of the process.

    Attributes:
        path: of the file, which can be deleted at any time.
        slots: int64 [N], the slot of each row, or -1 for a row that has none.
        row_bytes: of a row.
    """

    path: Path
    slots: np.ndarray
    row_bytes: int

    @contextmanager
    def opened(self) -> Iterator[BinaryIO | None]:
        """Open the file for reading and writing; None where it cannot be made."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            file = self.path.open("r+b", buffering=0)
        except OSError:
            yield None
            return
        with file:
            yield file

    def get(self, file: BinaryIO | None, row: int) -> bytes | None:
        """Return the bytes of `row` if they are kept."""
        slot = int(self.slots[row])
        if file is None or slot < 0:
            return None
        with suppress(OSError):
            file.seek(slot * (_CHECK_BYTES + self.row_bytes))
            found = file.read(_CHECK_BYTES + self.row_bytes)
            content = found[_CHECK_BYTES:]
            if len(content) == self.row_bytes and found[:_CHECK_BYTES] == _checksum(content):
                return content
        return None

    def put(self, file: BinaryIO | None, row: int, content: bytes) -> None:
        """Keep the bytes of `row` if it has a slot; a full disk costs time, nothing else."""
        slot = int(self.slots[row])
        if file is not None and slot >= 0:
            with suppress(OSError):
                file.seek(slot * (_CHECK_BYTES + self.row_bytes))
                file.write(_checksum(content) + content)


def slots_of(priority: np.ndarray, count: int, row_bytes: int, limit_bytes: float) -> np.ndarray:
    """Return the slot of each of `count` rows, int64 [N]: the first in `priority` that fit below a limit."""
    slots = np.full(count, -1, np.int64)
    kept = priority[: int(limit_bytes // (_CHECK_BYTES + row_bytes))]
    slots[kept] = np.arange(len(kept))
    return slots


def _checksum(content: bytes) -> bytes:
    # Never zero, as a hole in the file is.
    return (zlib.crc32(content) or 1).to_bytes(_CHECK_BYTES, "little")
