"""The settings of reading pictures: their shape, and how much of them may lie in memory."""

from __future__ import annotations

from dataclasses import dataclass

from dynnas.data.streaming.store import default_workers
from dynnas.errors import DataError
from dynnas.settings.settings import DataSettings

_GIGABYTE = 1e9


@dataclass(frozen=True)
class Reading:
    """The way in which the pictures of a folder are read.

    Attributes:
        size: height and width in pixels; None for a square of what suits the pictures.
        fit: how pictures of other shapes are brought to it, as of `dynnas.data.sources.pictures.Form`; None
            for what suits the data.
        memory_bytes: decoded pictures that are more than this are streamed from disk.
        cache_bytes: of decoded pictures that are kept on disk where they are streamed.
        workers: processes that decode.
    """

    size: tuple[int, int] | None = None
    fit: str | None = None
    memory_bytes: float = 2 * _GIGABYTE
    cache_bytes: float = 4 * _GIGABYTE
    workers: int = 1


def reading_of(settings: DataSettings) -> Reading:
    """Return the way of reading that the settings ask for.

    Raises:
        DataError: a size is not one number or two.
    """
    size = settings.size
    if len(size) > 2:
        raise DataError(f"data.size: {list(size)} has {len(size)} numbers; give one side, or [height, width]")
    workers = default_workers() if settings.workers is None else settings.workers
    return Reading(
        (size[0], size[-1]) if size else None,
        settings.fit,
        settings.memory_gb * _GIGABYTE,
        settings.cache_gb * _GIGABYTE,
        workers,
    )
