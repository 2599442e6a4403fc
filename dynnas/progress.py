"""Progress of long work: a silent base class, for which the command line has bars.

Library code takes a `Progress` argument and reports to it; only the command line passes `RichProgress`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Phase:
    """A task that a run is going to have.

    Attributes:
        name: of the task.
        steps: about how many it has.
        seconds: a guess of what one takes, until that is known.
        alike: a name that phases share whose steps take equally long; the phase's own if empty.
        about: what it is for, in a few words.
        images: about how many a step runs through a network, there counted several times where it also runs
            backward. Until a step of a phase is known it is taken to last as long for each of them as those
            of an earlier phase, and `seconds` at least.
    """

    name: str
    steps: int
    seconds: float
    alike: str = ""
    about: str = ""
    images: int = 0


class Progress:
    """Receives progress and messages; this base class is silent."""

    def plan(self, phases: Sequence[Phase]) -> None:
        """Announce the tasks of a run in their order, so that the time left for all of it can be told."""

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
