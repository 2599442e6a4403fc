"""Starts that the user gives, and results of another study."""

import numpy as np
import optuna
import pytest
from support.problems import Problem, fractions
from support.tables import grid_space
from support.trained_cells import trained_cells

from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import suggest
from dynnas.samplers.genome import Genome
from dynnas.samplers.make import make_sampler
from dynnas.samplers.model.forecasts import forecasts_of
from dynnas.space.architecture import Architecture
from dynnas.space.moves import enumerate_all, largest
from dynnas.space.space import Space

GOAL = Goal.of({"accuracy": "maximize", "latency": "minimize"})


def found(problem: Problem, earlier: list[ScoredArchitecture], trials: int, seed: int) -> float:
    sampler = make_sampler("guided", problem.space, population=10, seed=seed, goal=GOAL, earlier=earlier)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    visited = []
    for _ in range(trials):
        trial = study.ask()
        visited.append(problem.row(suggest(trial, problem.space)))
        study.tell(trial, [problem.accuracy[visited[-1]], problem.costs["latency"][visited[-1]]])
    return float(fractions(problem, "latency", visited)[-1])


@pytest.fixture(scope="module")
def on_cpu() -> Problem:
    return trained_cells(2, "thousand", "cpu")


@pytest.fixture(scope="module")
def on_launches() -> list[ScoredArchitecture]:
    """A hundred random cells of the same training, with the latencies of another device."""
    other = trained_cells(2, "thousand", "launches")
    names = [gene.name for gene in other.space.genes]
    keys = list(other.rows)
    drawn = np.random.default_rng(0).permutation(len(keys))[:100]
    return [
        ScoredArchitecture(
            Architecture(tuple(zip(names, keys[at], strict=True))),  # type: ignore[arg-type]
            {"accuracy": float(other.accuracy[at]), "latency": float(other.costs["latency"][at])},
        )
        for at in drawn
    ]


def test_results_for_another_device_shorten_the_search(
    on_cpu: Problem, on_launches: list[ScoredArchitecture]
) -> None:
    with_them, without = (
        np.mean([found(on_cpu, earlier, 12, seed) for seed in range(2)]) for earlier in (on_launches, [])
    )
    assert with_them > without + 0.1


def test_forecasts_give_the_earlier_results_again(
    on_cpu: Problem, on_launches: list[ScoredArchitecture]
) -> None:
    genome = Genome(on_cpu.space)
    forecasts = forecasts_of(genome, GOAL, on_launches)
    assert forecasts.keys() == {"accuracy", "latency"}
    features = genome.features(genome.encode_all(one.architecture for one in on_launches))
    values = np.array([one.metrics["latency"] for one in on_launches])
    order = np.argsort(values)
    assert np.corrcoef(forecasts["latency"].mean(features)[order], np.arange(100))[0, 1] > 0.95


def test_what_the_space_or_the_goal_does_not_have_is_left_out(on_launches: list[ScoredArchitecture]) -> None:
    assert forecasts_of(Genome(grid_space()), GOAL, on_launches) == {}
    genome = Genome(Space("same", tuple(grid_space().genes)))
    few = [ScoredArchitecture(one, {"accuracy": 1.0}) for one in list(enumerate_all(grid_space()))[:3]]
    assert forecasts_of(genome, GOAL, few) == {}  # too few to say anything


@pytest.mark.parametrize("name", ["guided", "evolution", "random", "nsga2"])
def test_starts_come_first(name: str) -> None:
    space = grid_space()
    starts = list(enumerate_all(space))[7:10]
    sampler = make_sampler(name, space, population=4, seed=0, starts=[*starts, largest(space), starts[0]])
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    proposed = []
    for number in range(6):
        trial = study.ask()
        proposed.append(suggest(trial, space))
        study.tell(trial, [number, number])
    assert proposed[:4] == [*starts, largest(space)]
    assert len({one.key for one in proposed}) == 6
