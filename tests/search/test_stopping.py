"""When a search ends, and what its hypervolume over the trials is."""

import time
from collections.abc import Mapping

import moocore
import numpy as np
import pytest
from support.tables import Table, conditional_space, grid_space

import dynnas
from dynnas.errors import StudyError
from dynnas.language.parser import parse_space
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.hypervolume import hypervolume_curve
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.search.stopping import StopConditions
from dynnas.space.architecture import Architecture
from dynnas.space.moves import enumerate_all


class Counting:
    """Gives the metrics of a list, in turn."""

    def __init__(self, metrics: list[tuple[float, float]]) -> None:
        self.metrics = metrics
        self.count = 0

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        accuracy, latency = self.metrics[min(self.count, len(self.metrics) - 1)]
        self.count += 1
        return {"accuracy": accuracy, "latency_ms": latency}


class Messages(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def message(self, text: str) -> None:
        self.told.append(text)


@pytest.mark.parametrize(
    ("target", "trials", "limits"),
    [
        ({"accuracy": 0.8}, 3, None),
        ({"accuracy": 0.8, "latency_ms": 4.0}, 5, None),
        ({"accuracy": 0.8}, 5, {"latency_ms": 4.5}),
        ({"accuracy": 1.0}, 30, None),
    ],
)
def test_target_of_one_candidate(
    target: dict[str, float], trials: int, limits: dict[str, float] | None
) -> None:
    table = Counting([(0.5, 1.0), (0.7, 4.0), (0.8, 5.0), (0.7, 3.0), (0.9, 4.0), (0.1, 9.0)])
    messages = Messages()
    dynnas.search(
        grid_space(), table, sampler="random", trials=30, until=target, limits=limits, progress=messages
    )
    assert table.count == trials
    assert (messages.told == []) == (trials == 30)
    if trials < 30:
        assert messages.told[0].startswith("search: the target is reached: accuracy 0.8")


def test_patience_counts_trials_since_the_last_gain() -> None:
    growing = [(0.5, 2.0), (0.4, 3.0), *((0.5 + 0.01 * step, 2.0) for step in range(25))]
    table = Counting([*growing, (0.6, 2.5)])
    dynnas.search(grid_space(), table, sampler="random", trials=200, patience=12)
    assert table.count == len(growing) + 12


def test_patience_survives_an_interruption(tmp_path: object) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    growing = [(0.1, 9.0), *((0.5 + 0.01 * step, 2.0) for step in range(22))]
    table = Counting(growing)
    dynnas.search(grid_space(), table, sampler="random", trials=26, patience=8, storage=url)
    dynnas.search(grid_space(), table, sampler="random", trials=99, patience=8, storage=url)
    assert table.count == len(growing) + 8


def test_minutes_of_this_run() -> None:
    class Slow(Table):
        def stages(self, architecture: Architecture):
            time.sleep(0.02)
            return super().stages(architecture)

    table = Slow()
    dynnas.search(conditional_space(), table, sampler="random", trials=100_000, minutes=0.5 / 60)
    assert 1 <= table.costly <= 26


def test_target_must_be_searched_for() -> None:
    with pytest.raises(
        StudyError, match="target: 'macs' is not searched for; allowed are accuracy, latency_ms"
    ):
        dynnas.search(grid_space(), Table(), until={"macs": 1.0})


def test_settings_of_a_file() -> None:
    text = "choices: {x: [1, 2]}\nsearch: {minutes: 2.5, target: {accuracy: 0.9}, patience: 50}"
    stopping = StopConditions.of(parse_space(text).settings.search)
    assert stopping == StopConditions(2.5, {"accuracy": 0.9}, 50)


def test_curve_is_the_hypervolume_of_every_beginning() -> None:
    goal = Goal.of(("accuracy", "latency_ms"))
    rng = np.random.default_rng(0)
    architectures = list(enumerate_all(grid_space()))[:60]
    candidates = [
        ScoredArchitecture(architecture, {"accuracy": float(a), "latency_ms": float(b)}, trial)
        for trial, (architecture, (a, b)) in enumerate(
            zip(architectures, rng.random((60, 2)), strict=True), start=3
        )
    ]
    losses = np.array([[-one.metrics["accuracy"], one.metrics["latency_ms"]] for one in candidates])
    front = losses[[not any((other < loss).all() for other in losses) for loss in losses]]
    corner = front.max(axis=0) + 0.1 * (front.max(axis=0) - front.min(axis=0))
    curve = hypervolume_curve(candidates, goal.objectives)
    assert curve.reference == pytest.approx({"accuracy": -corner[0], "latency_ms": corner[1]})
    for count in range(1, 61):
        expected = moocore.hypervolume(losses[:count], ref=corner)
        reached = [
            volume for trial, volume in zip(curve.trials, curve.volumes, strict=True) if trial < count + 3
        ]
        assert max(reached, default=0.0) == pytest.approx(expected)
    assert hypervolume_curve([], goal.objectives).volumes == ()
