"""Deferred Ctrl-C: it waits until a step of the database is done, because a cut connection stays locked."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Deferred:
    """A handler that remembers SIGINT; a second one interrupts at once."""

    def __init__(self) -> None:
        self.pressed = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.pressed:
            raise KeyboardInterrupt
        self.pressed = True


@contextmanager
def defer_sigint() -> Iterator[None]:
    """Finish a block before Ctrl-C interrupts, unless it is pressed twice; blocks can be nested.

    Where Ctrl-C does not interrupt anyway (on other threads, or where it is ignored), nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    main = threading.current_thread() is threading.main_thread()
    if not main or isinstance(before, _Deferred) or not callable(before):
        yield
        return
    held = _Deferred()
    signal.signal(signal.SIGINT, held)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if held.pressed:
            raise KeyboardInterrupt


def check_sigint() -> None:
    """Interrupt now, inside `defer_sigint`, if Ctrl-C was pressed: here nothing is half done.

    Raises:
        KeyboardInterrupt: it was pressed.
    """
    handler = signal.getsignal(signal.SIGINT)
    if isinstance(handler, _Deferred) and handler.pressed:
        raise KeyboardInterrupt
