"""Progress of long work: a silent default, and the bars of the command line.

Library code takes a `Progress` argument and reports to it; only the command line passes `RichProgress`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Progress:
    """Receives progress and messages; this base class is silent."""

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        """One piece of long work of `total` steps, `done` of which were finished by an earlier run."""
        yield Task()

    def message(self, text: str) -> None:
        """One line for the user that should stay on the screen."""


class Task:
    """One running piece of work; this base class is silent."""

    def advance(self, steps: int = 1, note: str = "") -> None:
        """`steps` more are done; `note` is shown beside the bar (loss, best so far)."""
