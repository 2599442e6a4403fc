"""Progress: what a terminal sees, what a log file sees, and what `--quiet` leaves."""

import io
from datetime import timedelta

import pytest
from rich.console import Console

from dynnas.cli.progress import PlainProgress, RichProgress, format_rate, show_progress
from dynnas.progress import Phase

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


PHASES = (
    Phase("training", 10, 5.0),
    Phase("search", 20, 3.0, alike="evaluation"),
    Phase("static-only control", 30, 3.0, alike="evaluation", about="to compare with"),
)


def test_the_time_left_is_that_of_the_whole_run() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, every=1, clock=clock)
    progress.plan(PHASES)
    with progress.task("training", total=10) as task:
        for _ in range(9):
            clock.now += 2.0
            task.advance()
    assert stream.getvalue().splitlines()[:2] == [
        "training: 10 steps",
        "training 1/10, 2.0 s each, 0:00:18 left, about 0:02:48 for the whole run",  # 18 + (20 + 30) * 3
    ]
    with progress.task("search", total=20) as task:
        for _ in range(20):
            clock.now += 1.0
            task.advance()
    # Controls are evaluated as trials are.
    assert "search 10/20, 1.0/s, 0:00:10 left, about 0:00:40 for the whole run" in stream.getvalue()
    with progress.task("static-only control", total=30) as task:
        clock.now += 1.0
        task.advance(30)
    assert stream.getvalue().splitlines()[-2:] == [
        "static-only control: 30 steps, to compare with",
        "static-only control 30/30, 30.0/s, took 0:00:01",  # nothing comes after it
    ]


def test_the_time_left_goes_by_the_latest_steps() -> None:
    """As where the largest network is trained alone in the first half of the steps."""
    stream, clock = io.StringIO(), Clock()
    with PlainProgress(stream, every=0, clock=clock).task("training", total=200) as task:
        for step in range(200):
            clock.now += 1.0 if step < 100 else 3.0
            task.advance()
    left = {line.split()[1]: line.split(", ")[2] for line in stream.getvalue().splitlines()[1:]}
    told = {int(at.split("/")[0]): text for at, text in left.items()}
    later = {done: text for done, text in told.items() if 140 <= done < 200}
    assert later == {done: f"{timedelta(seconds=3 * (200 - done))} left" for done in later}
    assert len(later) > 2


def test_what_is_not_begun_goes_by_the_pace_of_images_in_what_is() -> None:
    """Until then it was a constant, which large networks take many times as long as."""
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, every=1, clock=clock)
    search = Phase("search", 20, 3.0, alike="evaluation", images=400)
    control = Phase("random control", 10, 3.0, alike="evaluation", images=400)
    progress.plan(
        (Phase("training", 10, 5.0, images=100), search, control, Phase("testing", 5, 3.0, images=100))
    )
    with progress.task("training", total=10) as task:
        for _ in range(10):
            clock.now += 2.0
            task.advance()
    # 18 + (20 + 10) * 8 + 5 * 3: four times the images take four times the time, but 3 s at least.
    assert "training 1/10, 2.0 s each, 0:00:18 left, about 0:04:33 for the whole run" in stream.getvalue()
    with progress.task("search", total=20) as task:
        clock.now += 20.0
        task.advance(10)
    # 20 + 10 * 2 + 5 * 3: what is known counts, and it tells of images again.
    assert "search 10/20, 2.0 s each, 0:00:20 left, about 0:00:55 for the whole run" in stream.getvalue()


def test_what_an_earlier_run_has_finished_takes_no_time() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = PlainProgress(stream, every=1, clock=clock)
    progress.plan(PHASES)
    with progress.task("training", total=10, done=10):
        pass
    with progress.task("search", total=20, done=18) as task:
        clock.now += 4.0
        task.advance()
    assert "search 19/20, 4.0 s each, 0:00:04 left, about 0:02:04 for the whole run" in stream.getvalue()


def test_the_log_of_a_long_run_is_short() -> None:
    stream, clock = io.StringIO(), Clock()
    with PlainProgress(stream, every=15, clock=clock).task("training", total=10_000) as task:
        for _ in range(10_000):
            clock.now += 1.0
            task.advance()
    lines = stream.getvalue().splitlines()
    assert lines[1].startswith("training 15/10000")
    assert 40 < len(lines) < 70


def test_bars_tell_the_whole_run_too() -> None:
    console = Console(file=Terminal(), force_terminal=True, width=160, legacy_windows=False)
    clock = Clock()
    with RichProgress(console, clock) as progress:
        progress.plan(PHASES)
        with progress.task("training", total=10) as task:
            clock.now += 2.0
            task.advance(1, note="loss 0.25")
    assert "about 0:02:48 for the whole run, loss 0.25" in console.file.getvalue()


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
