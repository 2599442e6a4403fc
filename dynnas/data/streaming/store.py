"""Rows that are decoded when they are asked for: from the cache, in this process or by workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dynnas.data.streaming.files import PictureFiles
from dynnas.data.streaming.pool import WorkerPool
from dynnas.data.streaming.row_cache import RowCache
from dynnas.threads import usable_cores


@dataclass(eq=False)
class RowStore:
    """Decoded pictures by their row; what workers read is byte for byte what this process reads.

    Attributes:
        files: what is decoded.
        cache: what is kept of it; None to keep nothing.
        workers: processes that decode; 0 to decode in this one.
    """

    files: PictureFiles
    cache: RowCache | None = None
    workers: int = 0
    _pool: WorkerPool | None = field(default=None, repr=False)

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Decode `rows` in this process: uint8 [len(rows), C, H, W].

        Raises:
            DataError: a picture is damaged, gone or has changed.
        """
        images = np.empty((len(rows), *self.files.shape), np.uint8)
        if self.cache is None:
            for at, row in enumerate(rows.tolist()):
                images[at] = self.files.read(row)
            return images
        with self.cache.opened() as file:
            for at, row in enumerate(rows.tolist()):
                kept = self.cache.get(file, row)
                if kept is not None:
                    images[at] = np.frombuffer(kept, np.uint8).reshape(self.files.shape)
                    continue
                images[at] = self.files.read(row)
                self.cache.put(file, row, images[at].tobytes())
        return images

    def batches(self, parts: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Decode one batch for each of `parts`, in their order, ahead of what is asked for.

        Raises:
            DataError: as `read`, when the batch is due; or a worker ended.
        """
        if not self.workers or len(parts) < 2:
            return (self.read(rows) for rows in parts)
        if self._pool is None or not self._pool.mine:
            self._pool = WorkerPool(RowStore(self.files, self.cache), self.workers)
        return self._pool.batches(parts)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}


def default_workers() -> int:
    """Half of the processors that this process may use, at least one and at most eight."""
    return max(1, min(8, usable_cores({}) // 2))
