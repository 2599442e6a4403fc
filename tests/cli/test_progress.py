"""Progress: what a terminal sees, what a log file sees, and what `--quiet` leaves."""

import io

import pytest
from rich.console import Console

from dynnas.cli.progress import PlainProgress, RichProgress, format_rate, show_progress

ESCAPE = "\x1b"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_plain_lines_tell_rate_remaining_time_and_note() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainProgress(stream, every=15, clock=clock).task("training", total=100, done=40) as task:
        for _ in range(60):
            clock.now += 1.0
            task.advance(note="loss 1.5")
    assert stream.getvalue().splitlines() == [
        "training: 60 steps (40 of 100 done before)",
        "training 55/100, 1.0/s, 0:00:45 left, loss 1.5",
        "training 70/100, 1.0/s, 0:00:30 left, loss 1.5",
        "training 85/100, 1.0/s, 0:00:15 left, loss 1.5",
        "training 100/100, 1.0/s, took 0:01:00, loss 1.5",
    ]


def test_plain_lines_of_a_failing_task_end_where_it_failed() -> None:
    stream = io.StringIO()
    task = PlainProgress(stream).task("search", total=3)
    with pytest.raises(ValueError, match="broken"), task:
        raise ValueError("broken")
    assert stream.getvalue() == "search: 3 steps\n"


def test_a_task_that_an_earlier_run_finished_is_one_line() -> None:
    stream = io.StringIO()
    with PlainProgress(stream).task("training", total=5, done=5):
        pass
    assert stream.getvalue() == "training: 0 steps (5 of 5 done before)\n"


def test_bars_show_count_rate_and_note() -> None:
    console = Console(file=Terminal(), force_terminal=True, width=120, legacy_windows=False)
    with RichProgress(console) as progress:
        progress.message("[not markup]")
        with progress.task("training", total=4, done=1) as task:
            task.advance(3, note="loss 0.25")
    shown = console.file.getvalue()
    assert ESCAPE in shown
    assert all(text in shown for text in ("training", "4/4", "loss 0.25", "[not markup]"))


def test_the_stream_decides() -> None:
    log = io.StringIO()
    with show_progress(stream=log) as progress, progress.task("search", total=1) as task:
        task.advance()
    assert "search 1/1" in log.getvalue()
    assert ESCAPE not in log.getvalue()
    with show_progress(stream=Terminal()) as progress:
        assert isinstance(progress, RichProgress)


def test_quiet_says_nothing() -> None:
    terminal = Terminal()
    with show_progress(quiet=True, stream=terminal) as progress, progress.task("search", total=1) as task:
        task.advance()
        progress.message("done")
    assert terminal.getvalue() == ""


@pytest.mark.parametrize(("rate", "text"), [(12.34, "12.3/s"), (1.0, "1.0/s"), (0.25, "4.0 s each")])
def test_rates_read_well(rate: float, text: str) -> None:
    assert format_rate(rate) == text
