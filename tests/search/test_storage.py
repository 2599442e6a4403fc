"""The storage of a search: Optuna's own, waited for while its server is away, and nothing is done twice."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from support.tables import Table, conditional_space, grid_space

import dynnas
from dynnas.errors import StorageError, StudyError
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.samplers.trials import KEY, retry_interrupted
from dynnas.search.loop import SearchLoop
from dynnas.search.storage.retry import Retry
from dynnas.search.storage.storage import open_storage, search_storage
from dynnas.search.storage.studies import load_trials, open_trials
from dynnas.search.storage.urls import kept_url, sqlite_file, sqlite_url


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def test_is_optunas_own(url: str) -> None:
    with search_storage(url, "one", Progress()) as held:
        assert type(held.storage) is optuna.storages.RDBStorage
    with search_storage(None, "one", Progress()) as held:
        assert type(held.storage) is optuna.storages.InMemoryStorage


def test_sqlite_is_in_wal_mode(url: str) -> None:
    dynnas.search(grid_space(), Table(), trials=2, storage=url)
    with sqlite3.connect(sqlite_file(make_url(url)) or "") as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


class Losses:
    """Makes chosen writes of a storage fail, with what they wrote committed or not."""

    def __init__(self, storage: optuna.storages.BaseStorage, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done = 0
        self._failing: dict[int, bool] = {}
        for name in ("create_new_trial", "set_trial_param", "set_trial_user_attr", "set_trial_state_values"):
            monkeypatch.setattr(storage, name, self._losing(getattr(storage, name)))

    def at(self, write: int, *, committed: bool) -> None:
        """Lose the server at the write of that number, counted from now."""
        self._failing[self.done + write] = committed

    def _losing(self, method: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            self.done += 1
            committed = self._failing.pop(self.done, None)
            found = method(*arguments, **options) if committed is not False else None
            if committed is not None:
                raise OperationalError("COMMIT", None, ConnectionError("the server has gone"))
            return found

        return call


def served(url: str = "postgresql://here") -> Retry:
    """A retry that takes the database for a server's."""
    return Retry(make_url(url), seconds=30)


@pytest.mark.parametrize("committed", [True, False])
@pytest.mark.parametrize("write", range(1, 14))
def test_every_candidate_has_one_result_wherever_the_server_goes_away(
    write: int, committed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, goal = conditional_space(), Goal.of(("accuracy", "latency_ms"), {})

    def searched(lost: bool) -> list[tuple[str, list[float]]]:
        storage = open_storage(None)
        losses = Losses(storage, monkeypatch)
        sampler = make_sampler("evolution", space, population=4, seed=1, goal=goal)
        study = open_trials(storage, "lost", space, goal.objectives, sampler)
        driver = SearchLoop(study, space, Table(), goal, retry=served())
        driver.run(3, Progress())
        if lost:
            losses.at(write, committed=committed)
        driver.run(6, Progress())
        assert not study.get_trials(states=(TrialState.RUNNING, TrialState.WAITING))
        complete = study.get_trials(states=(TrialState.COMPLETE,))
        return [(trial.user_attrs[KEY], trial.values) for trial in complete]

    assert searched(lost=True) == searched(lost=False)


def test_a_search_by_another_while_the_server_was_away_is_noticed(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    space, goal = grid_space(), Goal.of(("accuracy", "latency_ms"), {})

    class Meanwhile(Table):
        def stages(self, architecture: object) -> Iterator[dict[str, float]]:
            other = optuna.load_study(study_name="two", storage=open_storage(url))
            retry_interrupted(other, space)
            losses.at(1, committed=False)
            return super().stages(architecture)  # type: ignore[arg-type]

    storage = open_storage(url)
    losses = Losses(storage, monkeypatch)
    study = open_trials(storage, "two", space, goal.objectives, RandomSampler(seed=1))
    with pytest.raises(StorageError, match="another process has searched this study"):
        SearchLoop(study, space, Meanwhile(), goal, retry=served()).run(3, Progress())


def test_crash_between_queueing_and_failing_an_interrupted_trial_queues_it_once() -> None:
    space = grid_space()
    study = optuna.create_study(directions=["minimize"])
    trial = study.ask()
    for gene in space.choices:
        trial.suggest_int(gene.name, int(gene.values[0]), int(gene.values[-1]))

    class KilledError(RuntimeError):
        pass

    tell = study.tell

    def killed(*arguments: object, **options: object) -> None:
        raise KilledError("killed")

    study.tell = killed  # type: ignore[method-assign, assignment]
    with pytest.raises(KilledError, match="killed"):
        retry_interrupted(study, space)
    study.tell = tell  # type: ignore[method-assign]
    retry_interrupted(study, space)
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL, TrialState.WAITING]
    assert study.trials[1].user_attrs[KEY] == space.architecture(trial.params).key


def test_tables_of_another_optuna_have_one_message(url: str, tmp_path: Path) -> None:
    open_storage(url)
    with sqlite3.connect(tmp_path / "study.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9.9.9'")
    with pytest.raises(StudyError, match=r"study.db was made by another version of Optuna, and this is 5\."):
        open_storage(url)


def test_what_is_no_database_has_one_message(url: str, tmp_path: Path) -> None:
    (tmp_path / "study.db").write_text("trials: none\n" * 100)
    with pytest.raises(StorageError, match=r"study.db cannot be used \(file is not a database\)"):
        open_storage(url)


@pytest.mark.parametrize("folder", ["st?x=1", "a%20b", "{x}", "a b", "ünï#1", "plain"])
def test_paths_of_any_characters(folder: str, tmp_path: Path) -> None:
    file = tmp_path / folder / "study.db"
    file.parent.mkdir()
    url = sqlite_url(file)
    assert sqlite_file(make_url(url)) == file
    assert load_trials(url, "grid") is None
    assert not file.exists()
    front = dynnas.search(grid_space(), Table(), trials=4, storage=url)
    assert {path.name for path in file.parent.iterdir()} >= {"study.db", "study.db.lock"}
    assert {path.name for path in tmp_path.iterdir()} == {folder}
    study = load_trials(url, "grid")
    assert study is not None
    assert len(study.trials) == 4
    assert len(front) > 0


def test_relative_urls_and_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = "sqlite:///two.db?timeout=30"
    dynnas.search(grid_space(), Table(), trials=4, storage=url)
    assert (tmp_path / "two.db.lock").exists()
    kept = kept_url(url)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_trials(url, "grid") is None
    found = load_trials(kept, "grid")
    assert found is not None
    assert len(found.trials) == 4
    assert not list((tmp_path / "elsewhere").iterdir())


def test_passwords_are_not_kept() -> None:
    assert kept_url("postgresql+psycopg://me:secret@host/base?sslmode=require") == (
        "postgresql+psycopg://me@host/base?sslmode=require"
    )
