"""What dies in mid-search beside workers: the database server, the disk's space, and two people at once."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState
from support import database
from support.searches import trials_at, wait_until
from support.tables import Table, grid_space, write_table
from support.workers import Slow

import dynnas
from dynnas.errors import StorageError, StudyError
from dynnas.language.parser import load_space
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.search.loop import SearchLoop
from dynnas.search.storage.storage import open_storage, search_storage
from dynnas.search.storage.studies import open_trials
from dynnas.workflows.run_table import run_table_study

SEARCH = """
import sys
from contextlib import closing
from pathlib import Path
import dynnas
from support.tables import grid_space
from support.workers import Slow
slow = Slow(Path({notes!r}), 0.05)
dynnas.search(grid_space(), slow, sampler="random", trials=200, storage={url!r})
"""


class Heard(Progress):
    """Keeps the messages."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def message(self, text: str) -> None:
        self.texts.append(text)


def results(trials: list[FrozenTrial]) -> list[tuple[str, list[float]]]:
    return [(trial.user_attrs["key"], trial.values) for trial in trials]


def expected(trials: int) -> list[tuple[str, list[float]]]:
    """What a search finds in this many trials when nothing happens to it."""
    chosen: list[tuple[str, list[float]]] = []

    class Noted(Table):
        def stages(self, architecture: object) -> Iterator[dict[str, float]]:
            found: dict[str, float] = {}
            for stage in super().stages(architecture):  # type: ignore[arg-type]
                found.update(stage)
                yield dict(stage)
            chosen.append((architecture.key, [found["accuracy"], found["latency_ms"]]))  # type: ignore[attr-defined]

    dynnas.search(grid_space(), Noted(), sampler="random", trials=trials)
    return chosen


def trials_in(file: Path) -> int:
    """How many trials a database has, without making its tables."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def lines(path: Path) -> int:
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture(scope="module")
def server() -> Iterator[database.Server]:
    if reason := database.why_not():
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    server = database.Server()
    server.start()
    yield server
    server.close()


@pytest.fixture
def url(server: database.Server) -> Iterator[str]:
    yield server.url
    optuna.delete_study(study_name="grid", storage=open_storage(server.url))


def test_server_that_comes_back_is_waited_for(server: database.Server, url: str, tmp_path: Path) -> None:
    heard, notes = Heard(), tmp_path / "notes"

    def restart() -> None:
        wait_until(lambda: lines(notes) >= 15)
        server.kill()
        time.sleep(1.0)
        server.start()

    other = threading.Thread(target=restart)
    other.start()
    dynnas.search(grid_space(), Slow(notes, 0.05), sampler="random", trials=60, storage=url, progress=heard)
    other.join()
    assert len(heard.texts) == 1
    assert "does not answer" in heard.texts[0]
    assert heard.texts[0].endswith("trying again for 60 seconds")
    assert results(trials_at(url, TrialState.COMPLETE)) == expected(60)
    # A trial that broke off as the server went away may stand there as failed; it was begun again.
    others = trials_at(url, TrialState.FAIL, TrialState.RUNNING, TrialState.WAITING)
    assert [trial.state for trial in others] in ([], [TrialState.FAIL])


@pytest.mark.slow
def test_server_that_stays_away_ends_the_search_which_goes_on_later(
    server: database.Server, url: str, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"

    def kill() -> None:
        wait_until(lambda: lines(notes) >= 15)
        server.kill()

    other = threading.Thread(target=kill)
    other.start()
    space, goal = grid_space(), Goal.of(("accuracy", "latency_ms"), {})
    sampler = make_sampler("random", space, population=10, seed=0)
    gone = pytest.raises(StorageError, match=r"does not answer .*for 1 seconds now; nothing .* is lost")
    with gone, search_storage(url, "grid", Progress(), retry_seconds=1.0) as held:
        study = open_trials(held.storage, "grid", space, goal.objectives, sampler)
        SearchLoop(study, space, Slow(notes, 0.05), goal, retry=held.retry).run(60, Progress())
    other.join()
    server.start()
    before = trials_at(url, TrialState.COMPLETE)
    assert len(before) >= 12
    dynnas.search(grid_space(), Table(), sampler="random", trials=60, storage=url)
    after = trials_at(url, TrialState.COMPLETE)
    assert after[: len(before)] == before
    assert sorted(results(after)) == sorted(expected(60))
    assert not trials_at(url, TrialState.RUNNING, TrialState.WAITING)


def started(url: str, notes: Path) -> subprocess.Popen[bytes]:
    """A search in another process, under way."""
    script = SEARCH.format(notes=str(notes), url=url)
    process = subprocess.Popen([sys.executable, "-c", script])
    wait_until(lambda: lines(notes) >= 3)
    return process


RACE = """
import sys
from contextlib import closing
from pathlib import Path
import dynnas
import alembic, optuna, psycopg
from support.tables import grid_space
from support.workers import Slow
from dynnas.search.storage.storage import search_storage
from dynnas.errors import StudyError
print("ready", flush=True)
sys.stdin.readline()
try:
    slow = Slow(Path({notes!r}), 0.05)
    dynnas.search(grid_space(), slow, sampler="random", trials=120, storage={url!r})
except StudyError as error:
    print(error)
"""


@pytest.mark.slow
def test_two_who_start_at_once_on_an_empty_database(server: database.Server, tmp_path: Path) -> None:
    import psycopg

    with psycopg.connect(f"host={server.folder} user=dynnas dbname=postgres", autocommit=True) as connection:
        connection.execute("CREATE DATABASE race")
    url = server.url.replace("/postgres?", "/race?")
    script = RACE.format(url=url, notes=str(tmp_path / "notes"))
    two = [
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in two:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in two:  # both read their line before either has made anything
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in two]
    assert sorted(map(bool, said)) == [False, True]
    assert "study 'grid' is being searched by another process on this database" in "".join(said)
    trials = trials_at(url)
    assert len(trials) == 120
    assert set(Counter(trial.user_attrs["key"] for trial in trials).values()) == {1}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_second_of_two_is_told_and_takes_over_when_the_first_dies(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    url = f"sqlite:///{tmp_path / 'study.db'}" if kind == "sqlite" else request.getfixturevalue("url")
    first = started(url, tmp_path / "notes")
    with pytest.raises(StudyError, match="study 'grid' is being searched by another process"):
        dynnas.search(grid_space(), Table(), sampler="random", trials=40, storage=url)
    first.kill()
    first.wait()
    before = trials_at(url, TrialState.COMPLETE)
    dynnas.search(grid_space(), Table(), sampler="random", trials=40, storage=url)
    after = trials_at(url, TrialState.COMPLETE)
    assert after[: len(before)] == before
    assert sorted(results(after)) == sorted(expected(len(after)))


@pytest.mark.slow
def test_two_folders_of_one_database(url: str, tmp_path: Path) -> None:
    space = load_space(write_table(tmp_path))
    first = started(url, tmp_path / "notes")
    with pytest.raises(StudyError, match="study 'grid' is being searched by another process on"):
        run_table_study(space, folder=tmp_path / "second" / "grid", storage=url)
    first.kill()
    first.wait()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if subprocess.run(mounted, check=False, capture_output=True).returncode:
        pytest.skip("a small disk can be mounted by root only")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.mark.slow
def test_full_disk_has_one_message_and_the_same_command_goes_on(disk: Path, tmp_path: Path) -> None:
    file = write_table(tmp_path)
    command = [sys.executable, "-m", "dynnas", "search", str(file), "--studies", str(disk), "--quiet"]
    command += ["--trials", "300"]
    full = subprocess.run(command, capture_output=True, text=True, check=False)
    assert full.returncode == 2
    assert full.stderr.count("\n") == 1
    assert full.stderr.startswith("dynnas: storage: no space is left for sqlite:///")
    assert "nothing that is finished is lost: when there is space, the same command continues" in full.stderr

    subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    url = f"sqlite:///{disk / 'grid' / 'study.db'}"
    before = trials_at(url, TrialState.COMPLETE)
    assert len(before) > 5
    subprocess.run(command, check=True, capture_output=True)
    after = trials_at(url, TrialState.COMPLETE)
    assert after[: len(before)] == before
    assert len(after) == 300
    assert set(Counter(trial.user_attrs["key"] for trial in after).values()) == {1}


@pytest.mark.slow
def test_interrupted_command_sends_its_workers_home(tmp_path: Path) -> None:
    file = write_table(tmp_path)
    command = [sys.executable, "-m", "dynnas", "search", str(file), "--studies", str(tmp_path), "--quiet"]
    command += ["--workers", "2", "--trials"]
    url = f"sqlite:///{tmp_path / 'grid' / 'study.db'}"
    with subprocess.Popen(
        [*command, "1000"], stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        wait_until(lambda: trials_in(tmp_path / "grid" / "study.db") > 20)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130, said
    assert said.startswith("\ndynnas: interrupted; nothing finished is lost, the same command continues")
    assert said.count("\n") == 2
    before = trials_at(url, TrialState.COMPLETE)
    assert not trials_at(url, TrialState.RUNNING)
    waiting = trials_at(url, TrialState.WAITING)
    assert {trial.user_attrs["attempt"] for trial in waiting} <= {1}  # it was nobody's fault
    subprocess.run([*command, str(len(before) + 10)], check=True, capture_output=True)
    after = trials_at(url, TrialState.COMPLETE)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 10
    assert set(Counter(trial.user_attrs["key"] for trial in after).values()) == {1}
