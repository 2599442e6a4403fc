"""Lists of picture files: what is known of each, and their images, in memory or streamed."""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.data.cache import cached
from dynnas.data.reading import Reading
from dynnas.data.sources import pictures
from dynnas.data.sources.pictures import Form
from dynnas.data.streaming.files import PictureFiles
from dynnas.data.streaming.images import StreamedImages
from dynnas.data.streaming.store import RowStore
from dynnas.errors import DataError
from dynnas.progress import Progress

_NAMED = 10
"""Broken pictures that are named in one message."""
_CACHE_FORM = "pictures-4"


@dataclass(frozen=True, eq=False)
class Listing:
    """Some picture files.

    Attributes:
        files: their paths.
        stats: int64 [N, 2], size in bytes and time of change in nanoseconds of each.
        digest: of paths and stats, so that it changes with any file.
        facts: int64 [N, 4], width and height of the upright picture, its kind, and a digest of its content.
    """

    files: Sequence[Path]
    stats: np.ndarray
    digest: str
    facts: np.ndarray

    @classmethod
    def of(cls, folder: Path, files: Sequence[Path], progress: Progress) -> Listing:
        """List files that lie in a folder; each is read once, and again when any of them has changed.

        Raises:
            DataError: some are no pictures; they are named together.
        """
        stats = [path.stat() for path in files]
        rows = np.array([(stat.st_size, stat.st_mtime_ns) for stat in stats], np.int64).reshape(-1, 2)
        digest = _digest(folder, files, rows)
        return cls(files, rows, digest, cached(f"facts-{digest}", lambda: _facts(files, progress)))

    @property
    def grey(self) -> bool:
        """True if all pictures are grey."""
        return bool((self.facts[:, 2] != pictures.COLOUR).all())

    @property
    def deep(self) -> bool:
        """True if some pictures have 16 bits a channel.

        Raises:
            DataError: others have colours.
        """
        deep = self.facts[:, 2] == pictures.DEEP
        if deep.any() and not self.grey:
            first, coloured = (
                self.files[int(np.flatnonzero(rows)[0])]
                for rows in (deep, self.facts[:, 2] == pictures.COLOUR)
            )
            raise DataError(
                f"{first} is grey with 16 bits or more, and {coloured} has colours; convert the former to 8 "
                "bits"
            )
        return bool(deep.any())

    def images(self, form: Form, reading: Reading, progress: Progress) -> np.ndarray | StreamedImages:
        """Return the pictures in a form [N, C, H, W], decoded once, or streamed if that is too much.

        Raises:
            DataError: some cannot be decoded; they are named together. Or those of 16 bits are too many.
        """
        size = math.prod((len(self.files), *form.shape)) * np.dtype(form.dtype).itemsize
        if size > reading.memory_bytes and form.deep:
            raise DataError(
                f"{self.files[0].parent}: pictures of 16 bits are held in memory, and these would take "
                f"{size / 1e9:.3g} GB; raise data.memory_gb, now {reading.memory_bytes / 1e9:g}, say a "
                "smaller data.size, or convert them to 8 bits"
            )
        if size > reading.memory_bytes:
            rows = np.arange(len(self.files))
            return StreamedImages(RowStore(PictureFiles.of(self.files, self.stats, form)), rows)
        kind = f"{'' if form.grey else 'x3'}{'x16' if form.deep else ''}"
        name = f"{_CACHE_FORM}-{self.digest}-{form.height}x{form.width}{form.fit}{kind}"
        return cached(name, lambda: _decode(self.files, form, progress))


def _digest(folder: Path, files: Sequence[Path], stats: np.ndarray) -> str:
    digest = hashlib.blake2b(stats.tobytes(), digest_size=16)
    digest.update(os.fsencode(folder.resolve()))
    for path in files:  # which all begin with the folder; resolving each would take longer than all else
        digest.update(os.fsencode(path)[len(os.fsencode(folder)) :] + b"\0")
    return digest.hexdigest()


def _facts(files: Sequence[Path], progress: Progress) -> np.ndarray:
    rows, broken = np.zeros((len(files), 4), np.int64), []
    with progress.task("listing pictures", len(files)) as task:
        for row, path in enumerate(files):
            try:
                content = path.read_bytes()
                digest = hashlib.blake2b(content, digest_size=8).digest()
                rows[row] = *pictures.measure(io.BytesIO(content), path), int.from_bytes(digest, signed=True)
            except (DataError, OSError) as error:
                broken.append(str(error))
            task.advance()
    _refuse(broken)
    return rows


def _decode(files: Sequence[Path], form: Form, progress: Progress) -> np.ndarray:
    images, broken = np.empty((len(files), *form.shape), form.dtype), []
    with progress.task("decoding images", len(files)) as task:
        for row, path in enumerate(files):
            try:
                images[row] = pictures.read(path, form)
            except DataError as error:
                broken.append(str(error))
            task.advance()
    _refuse(broken)
    return images


def _refuse(broken: Sequence[str]) -> None:
    if broken:
        more = f"\nand {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise DataError("\n".join(broken[:_NAMED]) + more)
