"""A lock that its owner can be pickled and copied with."""

from __future__ import annotations

import threading
from types import TracebackType


class OwnLock:
    """A reentrant lock. A pickle or copy of the object that has it gets another one, which is free."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        """Wait for the lock."""
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock."""
        self._lock.release()

    def __reduce__(self) -> tuple[type[OwnLock], tuple[()]]:
        """Return what makes the copy."""
        return OwnLock, ()
