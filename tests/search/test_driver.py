"""The loop: limits, failures, interruptions, and what the dashboard gets to see."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from support.tables import Table, conditional_space, grid_space

import dynnas
from dynnas.errors import StudyError
from dynnas.search.storage.locks import study_lock
from dynnas.search.storage.storage import open_storage
from dynnas.space.architecture import Architecture

SAMPLERS = ["nsga2", *(pytest.param(sampler, marks=pytest.mark.slow) for sampler in ("random", "tpe"))]


def load(url: str, name: str) -> optuna.Study:
    return optuna.load_study(study_name=name, storage=open_storage(url))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_limits_spare_the_costly_part_and_show_in_the_dashboard(sampler: str, url: str) -> None:
    table = Table()
    front = dynnas.search(
        grid_space(),
        table,
        sampler=sampler,
        trials=60,
        storage=url,
        population=8,
        limits={"latency_ms": 7.0},
    )
    study = load(url, "grid")
    assert study.metric_names == ["accuracy", "latency_ms"]
    rejected = [trial for trial in study.trials if "rejected" in trial.user_attrs]
    assert 0 < len(rejected) < 60
    assert table.cheap == 60
    assert table.costly == 60 - len(rejected)
    for trial in study.trials:
        over = trial.user_attrs["latency_ms"] > 7.0
        assert trial.state == TrialState.COMPLETE
        assert (trial in rejected) == over == (trial.system_attrs["constraints"][0] > 0)
        assert (trial.constraints["latency_ms"] > 0) == over
        assert ("accuracy" in trial.user_attrs) == (not over)
    assert rejected[0].user_attrs["rejected"].endswith("is above 7")
    assert max(member.metrics["latency_ms"] for member in front) <= 7.0
    assert {trial.number for trial in study.best_trials} >= {member.trial for member in front}


def test_dashboard_marks_the_infeasible(url: str) -> None:
    serializer = pytest.importorskip("optuna_dashboard._serializer")
    dynnas.search(grid_space(), Table(), trials=20, storage=url, limits={"latency_ms": 7.0})
    study = load(url, "grid")
    for trial in study.trials:
        shown = serializer.serialize_frozen_trial(study._study_id, trial, {})
        assert any(value > 0 for value in shown["constraints"]) == ("rejected" in trial.user_attrs)
        assert all(isinstance(value, float) for value in shown["values"])


def test_looser_limits_complete_what_was_rejected(url: str) -> None:
    table = Table()
    tight = dynnas.search(grid_space(), table, trials=40, storage=url, limits={"latency_ms": 6.0})
    loose = dynnas.search(grid_space(), table, trials=40, storage=url, limits={"latency_ms": 9.0})
    study = load(url, "grid")
    assert len({trial.user_attrs["key"] for trial in study.trials}) == 40
    assert (
        max(m.metrics["latency_ms"] for m in tight)
        <= 6.0
        < max(m.metrics["latency_ms"] for m in loose)
        <= 9.0
    )
    tight_again = dynnas.search(grid_space(), table, trials=40, storage=url, limits={"latency_ms": 6.0})
    assert tight_again == tight


class Sized:
    """Also gives a metric that nobody asked for before."""

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        yield {"macs": 100.0 * int(architecture["x0"])}
        yield from Table().stages(architecture)


def test_a_limit_on_what_was_not_measured_measures_it(url: str) -> None:
    dynnas.search(grid_space(), Table(), trials=20, storage=url)
    small = dynnas.search(grid_space(), Sized(), trials=20, storage=url, limits={"macs": 100.0})
    assert {member.metrics["macs"] for member in small} <= {0.0, 100.0}
    assert small
    study = load(url, "grid")
    assert len(study.trials) == 40
    assert len({trial.user_attrs["key"] for trial in study.trials}) == 20


class Flaky:
    """Fails for every architecture whose first value is 1."""

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        if architecture["x0"] == 1:
            raise MemoryError("out of memory: 3 GiB wanted")
        return {"accuracy": float(architecture["x1"]), "latency_ms": float(architecture["x2"])}


def test_failed_candidate_has_its_reason_and_the_search_goes_on(url: str) -> None:
    dynnas.search(grid_space(), Flaky(), sampler="random", trials=40, storage=url)
    trials = load(url, "grid").trials
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(trials) == 40
    assert failed == [trial for trial in trials if trial.params["x0"] == 1]
    assert {trial.user_attrs["failure"] for trial in failed} == {"MemoryError: out of memory: 3 GiB wanted"}


class Broken:
    """Works for a number of evaluations, then gives what it is told."""

    def __init__(self, works: int, then: Mapping[str, object]) -> None:
        self.left = works
        self.then = then

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        self.left -= 1
        return {"accuracy": 0.5, "latency_ms": 1.0} if self.left >= 0 else self.then


@pytest.mark.parametrize(("works", "in_a_row"), [(0, 5), (1, 10)])
def test_failure_of_everything_stops_the_search(works: int, in_a_row: int, url: str) -> None:
    with pytest.raises(StudyError, match=rf"{in_a_row} candidates in a row failed, .* 'accuracy' is nan"):
        dynnas.search(grid_space(), Broken(works, {"accuracy": float("nan")}), storage=url)
    assert len(load(url, "grid").trials) == works + in_a_row


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ({"accuracy": 1.0}, "gave accuracy, but not latency_ms"),
        ({"accuracy": 1.0, "latency_ms": "fast"}, "'latency_ms' is 'fast'; a number is needed"),
        ({"accuracy": 1.0, "latency_ms": 1.0, "key": 1.0}, "a metric called 'key'"),
    ],
)
def test_useless_metrics_are_named(metrics: Mapping[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        dynnas.search(grid_space(), Broken(0, metrics))


class Interrupted(Table):
    """Ctrl-C during the tenth evaluation."""

    def stages(self, architecture: Architecture):
        if self.cheap == 9:
            raise KeyboardInterrupt
        return super().stages(architecture)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_interrupted_trial_is_retried_and_the_search_goes_on_as_it_would_have(sampler: str, url: str) -> None:
    space = conditional_space()
    with pytest.raises(KeyboardInterrupt):
        dynnas.search(space, Interrupted(), sampler=sampler, trials=30, population=8, storage=url)
    front = dynnas.search(space, Table(), sampler=sampler, trials=30, population=8, storage=url)
    trials = load(url, space.name).trials
    assert [trial.number for trial in trials if trial.state == TrialState.FAIL] == [9]
    assert trials[9].params == trials[10].params
    straight = f"{url}2"
    expected = dynnas.search(space, Table(), sampler=sampler, trials=30, population=8, storage=straight)
    keys = [trial.user_attrs["key"] for trial in trials if trial.state == TrialState.COMPLETE]
    assert keys == [trial.user_attrs["key"] for trial in load(straight, space.name).trials]
    assert [member.key for member in front] == [member.key for member in expected]


def test_finished_study_does_nothing_more(url: str) -> None:
    first = dynnas.search(grid_space(), Table(), trials=12, storage=url)
    table = Table()
    assert dynnas.search(grid_space(), table, trials=12, storage=url) == first
    assert table.cheap == 0


def test_another_space_or_objective_is_refused(url: str) -> None:
    dynnas.search(grid_space(), Table(), trials=3, storage=url)
    with pytest.raises(StudyError, match=r"space is \w+, was \w+\n  gene x4 is \[.*\], was not given"):
        dynnas.search(grid_space(5), Table(), trials=3, storage=url)
    with pytest.raises(StudyError, match=r"objectives is \{'accuracy': 'maximize'\}, was \{'accuracy': "):
        dynnas.search(grid_space(), Table(), trials=3, storage=url, objectives=("accuracy",))


def test_second_driver_is_refused(url: str, tmp_path: Path) -> None:
    refused = pytest.raises(StudyError, match=r"study 'grid' is being searched by another process \(id \d+\)")
    with study_lock(tmp_path / "study.db.lock", "study 'grid'"), refused:
        dynnas.search(grid_space(), Table(), trials=3, storage=url)
    assert len(dynnas.search(grid_space(), Table(), trials=3, storage=url)) > 0


def test_unknown_database() -> None:
    with pytest.raises(StudyError, match="cannot open 'postgres://nowhere'"):
        open_storage("postgres://nowhere")
