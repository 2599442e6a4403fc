"""Several processes: the same results, one copy of the weights, and workers and drivers that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import TPESampler
from optuna.trial import TrialState
from support.searches import trials_at, wait_until
from support.tables import Table, conditional_space, grid_space
from support.workers import Deadly, Heavy, Slow

import dynnas
from dynnas.errors import StudyError
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.architecture import suggest
from dynnas.samplers.make import make_sampler
from dynnas.search.workers.pool import Job
from dynnas.search.workers.processes import ProcessPool
from dynnas.search.workers.shared_memory import SharedPickle
from dynnas.space.moves import smallest


class Heard(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def test_workers_find_what_one_process_finds(tmp_path: Path) -> None:
    found = []
    for workers in (1, 2):
        url = f"sqlite:///{tmp_path / f'{workers}.db'}"
        evaluator = Slow(tmp_path / f"notes{workers}", 0.02)
        dynnas.search(grid_space(), evaluator, sampler="random", trials=40, storage=url, workers=workers)
        trials = trials_at(url, TrialState.COMPLETE)
        assert len(trials_at(url)) == 40
        found.append({trial.user_attrs["key"]: trial.values for trial in trials})
    one, two = found
    assert one == two
    assert sorted(line.split()[1] for line in (tmp_path / "notes2").read_text().splitlines()) == sorted(two)
    workers_seen = {line.split()[0] for line in (tmp_path / "notes2").read_text().splitlines()}
    assert len(workers_seen) == 2
    assert str(os.getpid()) not in workers_seen


def test_what_kills_its_workers_fails_and_the_search_goes_on(tmp_path: Path) -> None:
    url, heard = f"sqlite:///{tmp_path / 'study.db'}", Heard()
    dynnas.search(
        grid_space(2), Deadly(), sampler="random", trials=16, storage=url, workers=2, progress=heard
    )
    trials = {tuple(trial.params.values()): trial for trial in trials_at(url)}
    assert len(trials) == len(trials_at(url)) == 16
    assert trials.pop((1, 1)).user_attrs["failure"] == (
        "LostWorker: its worker died 3 times, the last killed by SIGKILL"
    )
    assert trials.pop((2, 2)).user_attrs["failure"] == "ValueError: two twos"
    assert trials.pop((3, 3)).user_attrs["rejected"] == "no threes"
    assert {trial.state for trial in trials.values()} == {TrialState.COMPLETE}
    lost = [text for text in heard.texts if text.startswith("a worker was lost (killed by SIGKILL)")]
    assert [text.rsplit(", ", 1)[1] for text in lost] == ["attempt 2 of 3", "attempt 3 of 3"]


@dataclass(frozen=True)
class Nameless:
    function: object

    def evaluate(self, architecture: object) -> dict[str, float]:
        return {"accuracy": 1.0, "latency_ms": 1.0}


def test_what_cannot_be_sent_is_said() -> None:
    with pytest.raises(StudyError, match=r"cannot be sent to other processes .*; define its class"):
        dynnas.search(grid_space(), Nameless(lambda: 1), trials=4, workers=2)


def test_no_workers() -> None:
    with pytest.raises(StudyError, match="workers: found 0; at least 1 is needed"):
        dynnas.search(grid_space(), Table(), trials=4, workers=0)


@pytest.fixture
def pair() -> Iterator[ProcessPool]:
    pool = ProcessPool(Heavy(np.ones(40_000_000)), 2, Progress())
    yield pool
    pool.close()


def test_workers_hold_one_copy_and_are_replaced(pair: ProcessPool) -> None:
    job = Job("weigh", smallest(grid_space()))
    job_ids = {pair.submit(job) for _ in range(4)}
    answers = [pair.collect() for _ in range(4)]
    assert {answer.job_id for answer in answers} == job_ids
    for total, own in (answer.get() for answer in answers):
        assert total == 40_000_000
        assert own < 320_000_000  # bytes; the array alone has as many, and the process is not empty
    before = set(pair.ids)
    for victim in before:
        os.kill(victim, signal.SIGKILL)
    for _ in range(4):
        pair.submit(job)
    assert [pair.collect().get()[0] for _ in range(4)] == [40_000_000] * 4
    assert len(before) == 2
    assert set(pair.ids) - before


def test_closing_ends_workers_in_the_middle_of_a_job() -> None:
    pool = ProcessPool(Heavy(np.ones(10)), 1, Progress())
    pool.submit(Job("weigh", smallest(grid_space())))
    pool.collect()
    (worker,) = pool.ids
    pool.submit(Job("sleep", smallest(grid_space())))
    start = time.monotonic()
    pool.close()
    assert time.monotonic() - start < 30  # it sleeps for a minute
    assert not Path(f"/proc/{worker}").exists()


def test_packed_keeps_tensors_outside_of_the_pickle() -> None:
    content = {
        "tensor": torch.arange(1_000_000),
        "layer": torch.nn.Linear(300, 300),
        "view": torch.arange(12).reshape(3, 4).T,
        "array": np.arange(5.0),
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    packed = SharedPickle.of(content)
    assert packed.pickled < 10_000
    first, second = packed.open(), packed.open()
    packed.close()
    assert torch.equal(first["tensor"], content["tensor"])
    assert torch.equal(first["view"], content["view"])
    assert torch.equal(first["half"], content["half"])
    assert torch.equal(first["layer"].weight, content["layer"].weight)
    assert isinstance(first["layer"].weight, torch.nn.Parameter)
    first["tensor"][0] = 7
    assert (second["tensor"][0], content["tensor"][0]) == (0, 0)


@pytest.mark.parametrize("sampler", ["guided", "evolution", "nsga2", "tpe"])
def test_trials_that_run_at_once_are_not_alike(sampler: str) -> None:
    space, goal = conditional_space(), Goal.of(("accuracy", "latency_ms"))
    chosen = make_sampler(sampler, space, population=6, seed=3, goal=goal, parallel=True)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=chosen)
    table, seen = Table(), []
    running: list[tuple[optuna.Trial, Sequence[float]]] = []
    for _ in range(40):
        trial = study.ask()
        architecture = suggest(trial, space)
        seen.append(architecture.key)
        metrics = {name: value for stage in table.stages(architecture) for name, value in stage.items()}
        running.append((trial, (metrics["accuracy"], metrics["latency_ms"])))
        if len(running) == 5:
            study.tell(*running.pop(2))
    assert len(set(seen)) == 40


def test_tpe_keeps_away_from_running_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    made = TPESampler.__init__

    def noted(self: TPESampler, **arguments: object) -> None:
        given.append(bool(arguments["constant_liar"]))
        made(self, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(TPESampler, "__init__", noted)
    dynnas.search(grid_space(), Table(), sampler="tpe", trials=3)
    assert set(given) == {False}
    space = grid_space()
    study = optuna.create_study(
        directions=["maximize", "minimize"],
        sampler=make_sampler("tpe", space, population=2, seed=0, parallel=True),
    )
    for _ in range(3):
        suggest(study.ask(), space)
    assert given[-1]


KILLED = """
import sys
from pathlib import Path
import dynnas
from support.tables import grid_space
from support.workers import Slow
slow = Slow(Path({notes!r}), 0.1)
dynnas.search(grid_space(), slow, sampler="random", trials=200, storage={url!r}, workers=2)
"""


def gone(pid: int) -> bool:
    """Whether a process has ended; one that waits to be buried has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


@pytest.mark.slow
def test_killed_driver_leaves_nobody_behind_and_is_resumed(tmp_path: Path) -> None:
    url, notes = f"sqlite:///{tmp_path / 'study.db'}", tmp_path / "notes"
    notes.touch()
    script = KILLED.format(notes=str(notes), url=url)
    with subprocess.Popen([sys.executable, "-c", script]) as process:
        wait_until(lambda: len(notes.read_text().splitlines()) >= 12)
        process.kill()
    workers = {int(line.split()[0]) for line in notes.read_text().splitlines()}
    assert len(workers) == 2
    assert process.pid not in workers
    wait_until(lambda: all(map(gone, workers)), 10.0)
    before = trials_at(url, TrialState.COMPLETE)
    assert len(before) >= 8

    dynnas.search(grid_space(), Slow(notes), sampler="random", trials=60, storage=url, workers=2)

    after = trials_at(url, TrialState.COMPLETE)
    assert [trial for trial in after if trial.number <= before[-1].number][: len(before)] == before
    assert not trials_at(url, TrialState.RUNNING, TrialState.WAITING)
    assert set(Counter(trial.user_attrs["key"] for trial in after).values()) == {1}
    straight = f"sqlite:///{tmp_path / 'straight.db'}"
    dynnas.search(grid_space(), Table(), sampler="random", trials=60, storage=straight)
    expected = {trial.user_attrs["key"]: trial.values for trial in trials_at(straight)}
    assert {trial.user_attrs["key"]: trial.values for trial in after} == expected
