"""Signals that end a training: it finishes its step and saves before it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """A request to stop that is kept until someone asks for it."""

    def __init__(self) -> None:
        """Start without a request."""
        self.signal: int | None = None
        self._wished = threading.Event()

    def __bool__(self) -> bool:
        """Return whether to stop after the current step."""
        return self._wished.is_set()

    def wish(self) -> None:
        """Request a stop."""
        self._wished.set()

    def obey(self) -> None:
        """End as the signal says, after everything is saved.

        Raises:
            KeyboardInterrupt: it was Ctrl-C.
            SystemExit: it was SIGTERM; with the status that shells give such a process.
        """
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self:  # the second time there is no waiting for the step
            self.signal = number
            self.obey()
        self.signal = number
        self.wish()


@contextmanager
def stop_on_signals(stop: Stop) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM request a stop meanwhile; a second one ends at once.

    Only Python's main thread can do so; in others, and where a signal is ignored or handled by C code,
    nothing changes.
    """
    before = {}
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            handler = signal.getsignal(number)
            if handler not in (None, signal.SIG_IGN):
                before[number] = signal.signal(number, stop._handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
