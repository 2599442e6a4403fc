"""The driver's storage: what it writes is what Optuna would write, in three transactions, and once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from support.tables import Table, conditional_space

import dynnas
from dynnas.errors import StorageError
from dynnas.progress import Progress
from dynnas.search.storage import ledger, patience
from dynnas.search.storage.ledger import Ledger
from dynnas.search.storage.patience import Patience
from dynnas.search.storage.storage import driving_storage, open_storage


def ledger_at(url: str, said: str = "sqlite:///here") -> Ledger:
    backend = open_storage(url)
    assert isinstance(backend, optuna.storages.RDBStorage)
    return Ledger(backend, Patience(said, Progress()))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def some_trials(storage: optuna.storages.BaseStorage) -> optuna.Study:
    """A study in which everything occurs that a driver does."""
    study = optuna.create_study(
        storage=storage,
        study_name="some",
        directions=["maximize", "minimize"],
        sampler=optuna.samplers.RandomSampler(seed=1),
    )
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params={"x": 3},
            distributions={"x": optuna.distributions.IntDistribution(1, 8)},
            user_attrs={"key": "again"},
            system_attrs={"nsga2:generation": 1},
        )
    )
    for number in range(5):
        trial = study.ask()
        trial.suggest_int("x", 1, 8)
        trial.suggest_categorical("op", ["a", "b", True, 2.5])
        trial.suggest_float("rate", 0.1, 1.0, log=True)
        trial.set_user_attr("architecture", {"x": (1, 2), "op": None})
        trial.set_user_attr("key", "first")
        trial.set_user_attr("key", f"k{number}")
        trial.set_constraint("latency_ms", 0.5 - number)
        if number == 2:
            study.tell(trial, state=TrialState.FAIL)
        elif number != 3:
            study.tell(trial, [float("inf") if number == 4 else 0.1, 3])
    return study


def said(trial: FrozenTrial) -> tuple[object, ...]:
    started = trial.datetime_start is not None, trial.datetime_complete is not None
    return (
        trial.number, trial.state, trial.params, trial.distributions, trial.user_attrs, trial.system_attrs,
        trial.values, trial.constraints, started,
    )  # fmt: skip


def test_writes_what_optuna_writes(tmp_path: Path) -> None:
    plain = some_trials(optuna.storages.RDBStorage(f"sqlite:///{tmp_path / 'plain.db'}"))
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    driven = ledger_at(url)
    study = some_trials(driven)
    driven.write_down()
    expected = [said(trial) for trial in plain.trials]
    assert len(expected) == 5
    assert [said(trial) for trial in study.trials] == expected
    read = optuna.load_study(study_name="some", storage=f"sqlite:///{tmp_path / 'ledger.db'}")
    assert [said(trial) for trial in read.trials] == expected
    again = optuna.load_study(study_name="some", storage=ledger_at(url))
    assert [said(trial) for trial in again.trials] == expected


def test_what_was_handed_out_stays_as_it_was(url: str) -> None:
    study = optuna.create_study(storage=ledger_at(url), directions=["minimize"])
    trial = study.ask()
    before = study.get_trials(deepcopy=False)
    trial.set_user_attr("key", "new")
    trial.suggest_int("x", 1, 8)
    assert (before[0].user_attrs, before[0].params) == ({}, {})
    assert study.get_trials(deepcopy=False)[0].user_attrs == {"key": "new"}


def test_a_trial_is_written_in_three_transactions(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    commits: list[int] = []
    made = Ledger.__init__

    def counted(self: Ledger, backend: optuna.storages.RDBStorage, patient: Patience) -> None:
        made(self, backend, patient)
        sqlalchemy.event.listen(backend.engine, "commit", lambda connection: commits.append(1))

    monkeypatch.setattr(Ledger, "__init__", counted)
    counts = []
    for trials in (10, 30):
        dynnas.search(
            conditional_space(), Table(), sampler="random", trials=trials, storage=url,
            objectives=("accuracy", "latency_ms"),
        )  # fmt: skip
        counts.append(len(commits))
        commits.clear()
    assert len(open_storage(url).get_all_trials(1)) == 30
    # The second run made 20 trials; beside them, each run looks at the study as a whole.
    assert counts[0] <= 10 * 3 + 12
    assert counts[1] <= 20 * 3 + 12


class Losses:
    """Of the commits from `begin` on, those at the given places are done, and nobody hears of it."""

    def __init__(self) -> None:
        self._places: frozenset[int] = frozenset()
        self._count = 0

    def begin(self, *places: int) -> None:
        self._places, self._count = frozenset(places), 0

    def committed(self, session: Session) -> None:
        self._count += 1
        if self._count in self._places:
            raise OperationalError("COMMIT", None, ConnectionError("the server has gone"))


class Fragile(Session):
    """The sessions of ledgers."""


@pytest.fixture
def losses(monkeypatch: pytest.MonkeyPatch) -> Iterator[Losses]:
    found = Losses()
    monkeypatch.setattr(patience, "_FIRST_PAUSE", 0.01)
    monkeypatch.setattr(ledger, "Session", Fragile)
    sqlalchemy.event.listen(Fragile, "after_commit", found.committed)
    yield found
    sqlalchemy.event.remove(Fragile, "after_commit", found.committed)


@pytest.mark.parametrize("places", [(1,), (2,), (3,), (1, 3, 5)])
def test_what_was_committed_unheard_is_done_once(places: tuple[int, ...], url: str, losses: Losses) -> None:
    storage = ledger_at(url, "postgresql://here")
    study = optuna.create_study(storage=storage, study_name="lost", directions=["minimize"])
    for number in range(2):
        trial = study.ask()
        trial.suggest_int("x", 1, 8)
        trial.set_user_attr("key", f"k{number}")
        storage.write_down()
        study.tell(trial, [1.0])
        losses.begin(*places)
    read = optuna.load_study(study_name="lost", storage=url).trials
    assert [trial.user_attrs["key"] for trial in read] == ["k0", "k1"]
    assert [trial.params.keys() for trial in read] == [{"x"}, {"x"}]
    assert {trial.state for trial in read} == {TrialState.COMPLETE}


def test_a_search_by_another_while_the_server_was_away_is_noticed(url: str, losses: Losses) -> None:
    storage = ledger_at(url, "postgresql://here")
    study = optuna.create_study(storage=storage, study_name="two", directions=["minimize"])
    trial = study.ask()
    optuna.load_study(study_name="two", storage=url).ask()
    losses.begin(1)
    with pytest.raises(StorageError, match="another process has searched this study"):
        study.tell(trial, [1.0])


def test_only_one_drives(url: str) -> None:
    with driving_storage(url, "one", Progress()) as storage:
        assert isinstance(storage, Ledger)
    with driving_storage(None, "one", Progress()) as storage:
        assert not isinstance(storage, Ledger)
