"""Samplers in plain Optuna studies: Optuna's own suites, and what they find there."""

from __future__ import annotations

from collections.abc import Callable

import moocore
import numpy as np
import optuna
import pytest
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.testing.pytest_samplers import RelativeSamplerTestCase

from dynnas.samplers.plain import PlainSampler, _Levels

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")


class TestRelative(RelativeSamplerTestCase):
    @pytest.fixture(params=["guided", "evolution"])
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], BaseSampler]:
        return lambda: PlainSampler(request.param, seed=0)


def found(sampler: BaseSampler, trials: int) -> float:
    """Hypervolume of ZDT1 (Zitzler 2000) with a kind that adds to the first objective and an exponent."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        first = trial.suggest_float("first", 0.0, 1.0)
        rest = [trial.suggest_float(f"rest{at}", 0.0, 1.0) for at in range(4)]
        rest.append(abs(np.log10(trial.suggest_float("rate", 1e-4, 1.0, log=True)) + 2) / 2)
        rest.append(trial.suggest_int("steps", 0, 100) / 100)
        first += {"a": 0.3, "b": 0.0, "c": 0.5}[trial.suggest_categorical("kind", ["a", "b", "c"])]
        distance = 1 + 9 * sum(rest) / len(rest)
        return first, distance * (1 - np.sqrt(min(first / distance, 1.0)))

    study.optimize(objective, n_trials=trials)
    losses = np.array([trial.values for trial in study.trials])
    return float(moocore.hypervolume(losses[(losses < 6.0).all(axis=1)], ref=[6.0, 6.0]))


def test_guided_finds_more_than_chance_among_numbers_and_texts() -> None:
    assert found(PlainSampler(seed=0), 40) > found(RandomSampler(seed=0), 40) + 5


@pytest.mark.parametrize(
    "distribution",
    [
        FloatDistribution(-1.0, 3.0),
        FloatDistribution(1e-5, 1.0, log=True),
        FloatDistribution(-10.2, 10.2, step=0.1),
        IntDistribution(0, 10, step=2),
        IntDistribution(1, 1000, log=True),
        CategoricalDistribution((None, True, 1, 2.5, "1")),
    ],
)
def test_values_are_drawn_from_around_their_level(distribution: BaseDistribution) -> None:
    levels, rng = _Levels("x", distribution), np.random.default_rng(0)
    assert 1 < len(levels.gene.values) <= 33 or isinstance(distribution, CategoricalDistribution)
    for at, level in enumerate(levels.gene.values):
        value = levels.draw(level, rng)
        assert distribution._contains(distribution.to_internal_repr(value))
        # A step that is half-way between two levels may fall to either.
        assert abs(levels.gene.values.index(levels.find(value)) - at) <= 1


def test_few_values_are_levels_themselves() -> None:
    levels, rng = _Levels("x", IntDistribution(0, 10, step=2)), np.random.default_rng(0)
    assert [levels.draw(level, rng) for level in levels.gene.values] == [0, 2, 4, 6, 8, 10]
    texts = _Levels("x", CategoricalDistribution((None, True, 1, "1")))
    assert [texts.draw(text, rng) for text in texts.gene.values] == [None, True, 1, "1"]
    assert len(set(texts.gene.values)) == 4


def test_continuous_values_are_not_on_a_grid() -> None:
    levels, rng = _Levels("x", FloatDistribution(1e-5, 1.0, log=True)), np.random.default_rng(0)
    middle = levels.gene.values[16]
    drawn = np.array([levels.draw(middle, rng) for _ in range(200)])
    assert len(set(drawn.tolist())) == 200
    assert np.abs(np.log(drawn) - np.log(middle)).max() <= np.log(1e5) / 64 + 1e-9
