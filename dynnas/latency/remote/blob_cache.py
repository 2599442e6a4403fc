"""A cache of what clients have sent, by its digest."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable


def digest_of(data: bytes) -> str:
    """Return the name of `data` in a cache: its SHA-256."""
    return hashlib.sha256(data).hexdigest()


class BlobCache:
    """Bytes by their digest; the least recently used go first. For several threads.

    Args:
        most: bytes in all.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, data: bytes) -> str:
        """Keep `data`, and return its digest."""
        digest = digest_of(data)
        with self._lock:
            self._kept[digest] = data
            self._kept.move_to_end(digest)
            while sum(map(len, self._kept.values())) > self._most and len(self._kept) > 1:
                self._kept.popitem(last=False)
        return digest

    def get(self, digests: Iterable[str]) -> tuple[dict[str, bytes], list[str]]:
        """Return what is there of `digests`, and which are missing."""
        wanted = list(dict.fromkeys(digests))
        with self._lock:
            found = {digest: self._kept[digest] for digest in wanted if digest in self._kept}
            for digest in found:
                self._kept.move_to_end(digest)
        return found, [digest for digest in wanted if digest not in found]
