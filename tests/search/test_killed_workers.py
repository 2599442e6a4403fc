"""Workers of a real study: the same accuracies as without them, though one is killed in mid-search."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support.small_study import small_space

from dynnas.progress import Progress, Task
from dynnas.workflows.run import run_study


def workers() -> list[int]:
    """Of this process."""
    return [process.pid for process in multiprocessing.active_children() if process.pid]


class Murderous(Progress):
    """Kills a worker as soon as the search has its third candidate."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.killed: list[int] = []

    @property
    def lost(self) -> bool:
        return any("a worker was lost (killed by SIGKILL)" in text for text in self.texts)

    def message(self, text: str) -> None:
        self.texts.append(text)

    @contextmanager
    def task(self, name: str, total: int, done: int = 0) -> Iterator[Task]:
        yield _Deed(self) if name == "search" else Task()


class _Deed(Task):
    def __init__(self, progress: Murderous) -> None:
        self.progress, self.steps = progress, 0

    def advance(self, steps: int = 1, note: str = "") -> None:
        self.steps += steps
        if self.steps >= 3 and not self.progress.lost:  # workers without a job are replaced without a word
            self.progress.killed = workers()
            for worker in self.progress.killed:
                os.kill(worker, signal.SIGKILL)


@pytest.mark.slow
def test_study_with_workers_is_the_study_without(tmp_path: Path) -> None:
    search = {"sampler": "random", "trials": 12, "controls": False}
    alone = run_study(small_space(tmp_path, search=search), folder=tmp_path / "alone")
    progress = Murderous()
    shared = run_study(
        small_space(tmp_path, search={**search, "workers": 2}), folder=tmp_path / "shared", progress=progress
    )
    assert len(progress.killed) == 2
    assert progress.lost
    expected = {candidate.key: candidate.metrics for candidate in alone.candidates}
    assert len(expected) == 12
    assert any("exit_share.head" in metrics for metrics in expected.values())
    assert {candidate.key for candidate in shared.candidates} == expected.keys()
    for candidate in shared.candidates:
        for name, value in candidate.metrics.items():
            if not name.endswith("_ms"):
                assert value == expected[candidate.key][name], name
    assert shared.finished
    assert not workers()
