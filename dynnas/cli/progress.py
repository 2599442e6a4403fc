"""Progress on a terminal: live bars where there is one, and sparse plain lines where there is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from dynnas.progress import Progress, Task


@contextmanager
def show_progress(quiet: bool = False, stream: TextIO | None = None) -> Iterator[Progress]:
    """Progress on `stream` (standard error): bars on a terminal, else plain lines; none if `quiet`."""
    stream = stream or sys.stderr
    console = Console(file=stream)
    if quiet:
        yield Progress()
    elif stream.isatty() and not console.is_dumb_terminal:
        with RichProgress(console) as progress:
            yield progress
    else:
        yield PlainProgress(stream)


def format_rate(per_second: float) -> str:
    """Return steps a second, or seconds a step where that reads better."""
    return f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s each"


class RichProgress(Progress):
    """Bars with rate, remaining time and note, redrawn while this context is open."""

    def __init__(self, console: Console) -> None:
        self._bars = bars.Progress(
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(bar_width=24),
            bars.MofNCompleteColumn(),
            _RateColumn(),
            bars.TimeRemainingColumn(elapsed_when_finished=True),
            bars.TextColumn("{task.fields[note]}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            console=console,
            speed_estimate_period=60.0,
        )

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        bar = self._bars.add_task(name, total=total, completed=done, note="")
        try:
            yield _RichTask(self._bars, bar)
        finally:
            self._bars.stop_task(bar)

    def message(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


class _RichTask(Task):
    def __init__(self, progress: bars.Progress, bar: bars.TaskID) -> None:
        self._progress = progress
        self._bar = bar

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._progress.update(self._bar, advance=steps, note=note)


class _RateColumn(bars.ProgressColumn):
    """Steps a second over the last minute; over the whole run once it is finished."""

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_rate(speed) if speed else "", style="progress.data.speed")


class PlainProgress(Progress):
    """A line when a task starts and ends, and whenever `every` seconds have passed in between."""

    def __init__(
        self, stream: TextIO, every: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        task = _PlainTask(self.message, name, total, done, self._every, self._clock)
        self.message(f"{name}: {total - done} steps" + (f" ({done} of {total} done before)" if done else ""))
        yield task
        task.finish()

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _PlainTask(Task):
    def __init__(
        self,
        say: Callable[[str], None],
        name: str,
        total: int,
        done: int,
        every: float,
        clock: Callable[[], float],
    ) -> None:
        self._say, self._name, self._total, self._every, self._clock = say, name, total, every, clock
        self._before = self._done = done
        self._start = self._said = clock()
        self._note = ""

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._done += steps
        self._note = note
        if self._done < self._total and self._clock() - self._said >= self._every:
            self._line()

    def finish(self) -> None:
        if self._done > self._before:
            self._line()

    def _line(self) -> None:
        self._said = self._clock()
        elapsed = max(self._said - self._start, 1e-9)
        rate = (self._done - self._before) / elapsed
        left = max(self._total - self._done, 0) / rate
        times = f"{_clock_text(left)} left" if left else f"took {_clock_text(elapsed)}"
        parts = [f"{self._name} {self._done}/{self._total}", format_rate(rate), times, self._note]
        self._say(", ".join(part for part in parts if part))


def _clock_text(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
