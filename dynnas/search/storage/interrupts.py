"""Ctrl-C waits for the database: a connection that it cuts through stays locked, a result is half told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Held:
    """A handler of SIGINT that remembers it; told twice, it interrupts at once."""

    def __init__(self) -> None:
        self.came = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.came:
            raise KeyboardInterrupt
        self.came = True


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Do all of a block before Ctrl-C interrupts, unless it is pressed twice; blocks may lie in each other.

    Where Ctrl-C does not interrupt anyway (on other threads, or where it is ignored), nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or isinstance(before, _Held) or not callable(before):
        yield
        return
    held = _Held()
    signal.signal(signal.SIGINT, held)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held.came:
            raise KeyboardInterrupt


def let_through() -> None:
    """Interrupt now, within `uninterrupted`, if Ctrl-C was pressed: here nothing is half done.

    Raises:
        KeyboardInterrupt: it was.
    """
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _Held) and handler.came:
        raise KeyboardInterrupt
