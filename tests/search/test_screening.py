"""Hopeless candidates are not measured, and nothing that could be on the front is missed."""

import itertools

import numpy as np
import pytest
from support.tables import grid_space

from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.samplers.trials import SCREENED
from dynnas.search.loop import SearchLoop
from dynnas.search.prefilter import Prefilter
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import open_trials
from dynnas.space.moves import enumerate_all

SPACE = grid_space(3, 4)
ERROR = 0.02


class Predicting:
    """A table whose latencies are predicted within 3 * ERROR, and measured last; counts the measurements."""

    def __init__(self):
        self.measured = 0
        self.accurate = 0

    def stages(self, architecture):
        values = [float(value) for value in architecture.values()]
        rng = np.random.default_rng(int(architecture.key, 16) % 2**32)
        latency = 1.0 + sum(values)
        yield {"predicted_ms": latency * (1 + ERROR * float(rng.uniform(-3, 3)))}
        self.accurate += 1
        yield {"accuracy": 1.0 - 1.0 / latency - 0.3 * float(rng.random())}
        self.measured += 1
        yield {"latency_ms": latency}


def search(goal, trials, screen=True, study=None):
    table = Predicting()
    sampler = make_sampler("random", SPACE, population=4, seed=0)
    study = study or open_trials(open_storage(None), "screened", SPACE, goal.objectives, sampler)
    driver = SearchLoop(study, SPACE, table, goal, Prefilter(goal, 3 * ERROR) if screen else None)
    driver.run(trials, Progress())
    return driver, table, study


def points(front):
    return [(member.key, dict(member.metrics)) for member in front]


@pytest.mark.parametrize("limits", [{}, {"latency_ms": 6.0}])
def test_the_front_is_that_of_measuring_everything(limits):
    goal = Goal.of(("accuracy", "latency_ms"), limits)
    screened, table, study = search(goal, SPACE.size)
    everything, whole, _ = search(goal, SPACE.size, screen=False)
    assert points(screened.front()) == points(everything.front())
    assert table.measured < 0.7 * whole.measured
    reasons = [trial.user_attrs[SCREENED] for trial in study.trials if SCREENED in trial.user_attrs]
    assert len(reasons) == SPACE.size - table.measured
    assert any("dominated by" in reason for reason in reasons)
    if limits:
        assert any("latency_ms" in reason and "is above 6" in reason for reason in reasons)
        assert table.accurate < SPACE.size


def test_samplers_are_told_the_prediction():
    goal = Goal.of(("accuracy", "latency_ms"))
    _, _, study = search(goal, 30)
    for trial in study.trials:
        told = trial.user_attrs.get("latency_ms", trial.user_attrs["predicted_ms"])
        assert trial.values == [trial.user_attrs["accuracy"], told]


def test_what_looser_limits_give_hope_is_tried_again():
    tight = Goal.of(("accuracy", "latency_ms"), {"latency_ms": 4.0})
    _, _, study = search(tight, SPACE.size)
    loose = Goal.of(("accuracy", "latency_ms"))
    again, _, _ = search(loose, SPACE.size, study=study)
    everything, _, _ = search(loose, SPACE.size, screen=False)
    assert sorted(map(str, points(again.front()))) == sorted(map(str, points(everything.front())))
    before = len(study.trials)
    search(loose, SPACE.size, study=study)  # nothing is left to be tried
    assert len(study.trials) == before


def test_verdicts_against_brute_force():
    goal = Goal.of(("accuracy", "latency_ms"))
    screen = Prefilter(goal, 0.1)
    rng = np.random.default_rng(0)
    architectures = itertools.islice(enumerate_all(SPACE), 30)
    rivals = Front.of(
        [
            ScoredArchitecture(
                each, {"accuracy": float(rng.random()), "latency_ms": float(rng.uniform(1, 2))}
            )
            for each in architectures
        ],
        goal.objectives,
    )
    for _ in range(200):
        metrics = {"accuracy": float(rng.random()), "predicted_ms": float(rng.uniform(1, 2.2))}
        hopeless = any(
            rival.metrics["accuracy"] >= metrics["accuracy"]
            and rival.metrics["latency_ms"] <= 0.9 * metrics["predicted_ms"]
            for rival in rivals
        )
        assert (screen.verdict(metrics, rivals) is not None) == hopeless
        assert screen.verdict({**metrics, "latency_ms": 9.0}, rivals) is None
        assert screen.verdict({"predicted_ms": metrics["predicted_ms"]}, rivals) is None
