"""Processor time by what it was spent on, also over interruptions."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dynnas.files import atomic_write
from dynnas.progress import Phase, Progress, Task

_WRITING = threading.Lock()


class Clock:
    """Seconds of processor time by what they were spent on, kept in a file, also if the process is killed.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def seconds(self) -> dict[str, float]:
        """What is kept."""
        found: dict[str, float] = json.loads(self._path.read_text()) if self._path.exists() else {}
        return found

    @contextmanager
    def spent(self, what: str) -> Iterator[None]:
        """Add the time that is spent inside; it is written every few seconds."""
        before, start, ended = self.seconds.get(what, 0.0), _processor_seconds(), threading.Event()

        def write() -> None:
            with _WRITING:
                known = self.seconds | {what: before + _processor_seconds() - start}
                atomic_write(self._path, json.dumps(known))

        def watch() -> None:
            while not ended.wait(5.0):
                write()

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()
            write()


def once(path: Path, name: str, number: Callable[[], int]) -> int:
    """Return a number that is worked out once and kept in a file, as it follows from times."""
    known: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    if name not in known:
        known[name] = number()
        atomic_write(path, json.dumps(known))
    return known[name]


def _processor_seconds() -> float:
    """Return the processor time of this process and those that it has started and ended."""
    return sum(os.times()[:4])


class Timed(Progress):
    """Progress that notes the processor time of tasks of one name.

    Args:
        inner: is told of everything. clock: has the times.
        what: they are noted as. name: of the tasks.
    """

    def __init__(self, inner: Progress, clock: Clock, what: str, name: str = "training") -> None:
        self._inner, self._clock, self._what, self._name = inner, clock, what, name

    def plan(self, phases: Sequence[Phase]) -> None:
        self._inner.plan(phases)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        with self._inner.task(name, total, done) as task:
            if name == self._name:
                with self._clock.spent(self._what):
                    yield task
            else:
                yield task

    def message(self, text: str) -> None:
        self._inner.message(text)
