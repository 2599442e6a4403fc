"""Decoded images kept between runs, in $DYNNAS_CACHE or the user's cache folder.

The files can be deleted at any time.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from dynnas.files import cache_folder


def cached(key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that `make` returns; read-only from the file `key`.npy in the cache once it has been made.

    `key` must name the input's contents: there is no other check that the array is still right.
    """
    path = cache_folder() / f"{key}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = make()
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        _write(path, array)
    return array


def _write(path: Path, array: np.ndarray) -> None:
    """All or nothing: another process never sees half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        partial = Path(folder) / path.name
        np.save(partial, array)
        partial.replace(path)
