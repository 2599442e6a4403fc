"""Progress of long work: a silent base class, for which the command line has bars.

Library code takes a `Progress` argument and reports to it; only the command line passes `RichProgress`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Receives progress and messages; this base class is silent."""

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """Start one piece of long work of `total` steps; an earlier run finished `done` of them."""
        yield Task()

    def message(self, text: str) -> None:
        """Show one line that should stay on the screen."""


class Task:
    """One running piece of work; this base class is silent."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Count `steps` more as done; `note` is shown beside the bar (loss, best so far)."""
