"""Progress on a terminal: live bars where there is one, and sparse plain lines where there is not."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from rich import progress as bars
from rich.console import Console
from rich.table import Column
from rich.text import Text

from dynnas.cli.whole_run import Timed, WholeRun, clock_text
from dynnas.progress import Phase, Progress, Task

_SPARSE = 0.1
"""The share of a task's time between two plain lines, so that a long run leaves a short log."""


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

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
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
        self._whole, self._clock = WholeRun(), clock

    def __enter__(self) -> RichProgress:
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def plan(self, phases: Sequence[Phase]) -> None:
        self._whole.plan(phases)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        bar = self._bars.add_task(name, total=total, completed=done, note=self._whole.about(name))
        timed = Timed(self._whole, name, total, done, self._clock)
        try:
            yield _RichTask(self._bars, bar, timed)
        finally:
            timed.end()
            self._bars.stop_task(bar)

    def message(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)


class _RichTask(Task):
    def __init__(self, progress: bars.Progress, bar: bars.TaskID, timed: Timed) -> None:
        self._progress = progress
        self._bar = bar
        self._timed = timed

    def advance(self, steps: int = 1, note: str = "") -> None:
        self._timed.advance(steps)
        whole = self._timed.whole_text()
        self._progress.update(self._bar, advance=steps, note=", ".join(filter(None, (whole, note))))


class _RateColumn(bars.ProgressColumn):
    """Steps a second over the last minute; over the whole run once it is finished."""

    def render(self, task: bars.Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(format_rate(speed) if speed else "", style="progress.data.speed")


class PlainProgress(Progress):
    """A line when a task starts and ends, and sparse ones in between.

    There is one whenever `every` seconds and a tenth of the task's time so far have passed since the last.
    """

    def __init__(
        self, stream: TextIO, every: float = 15.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._every = every
        self._clock = clock
        self._whole = WholeRun()

    def plan(self, phases: Sequence[Phase]) -> None:
        self._whole.plan(phases)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        timed = Timed(self._whole, name, total, done, self._clock)
        about = self._whole.about(name)
        self.message(
            f"{name}: {total - done} steps"
            + (f" ({done} of {total} done before)" if done else "")
            + (f", {about}" if about else "")
        )
        task = _PlainTask(self.message, timed, self._every)
        try:
            yield task
        finally:
            timed.end()
        task.finish()

    def message(self, text: str) -> None:
        print(text, file=self._stream, flush=True)


class _PlainTask(Task):
    def __init__(self, say: Callable[[str], None], timed: Timed, every: float) -> None:
        self._say, self._timed, self._every = say, timed, every
        self._said = 0.0
        self._note = ""

    def advance(self, steps: int = 1, note: str = "") -> None:
        timed = self._timed
        timed.advance(steps)
        self._note = note
        elapsed = timed.elapsed
        if timed.done < timed.total and elapsed - self._said >= max(self._every, elapsed * _SPARSE):
            self._line()

    def finish(self) -> None:
        if self._timed.done > self._timed.before:
            self._line()

    def _line(self) -> None:
        timed = self._timed
        self._said = timed.elapsed
        left = timed.left
        times = f"{clock_text(left)} left" if left else f"took {clock_text(timed.elapsed)}"
        parts = [f"{timed.name} {timed.done}/{timed.total}", format_rate(timed.rate), times]
        self._say(", ".join(part for part in (*parts, timed.whole_text(), self._note) if part))
