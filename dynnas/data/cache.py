"""Decoded images kept between runs, in $DYNNAS_CACHE or the user's cache folder.

The files can be deleted at any time.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from dynnas.files import cache_folder, replacing


def cached(key: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """Return the array that `make` returns.

    Once made, it is read (read-only) from the file `key`.npy in the cache.

    `key` must name the input's contents: there is no other check that the array is still right.
    """
    path = cache_folder() / f"{key}.npy"
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        array = make()
    # A cache that cannot be written costs time, nothing else. Not synced: gigabytes that can be made again.
    with suppress(OSError), replacing(path, sync=False) as file:
        np.save(file, array)
    return array
