"""`guided` beside chance and plain local search, in every kind of study that it serves in."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, replace

import moocore
import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import TrialState
from support.problems import Problem, device_cells, epistatic, failing, networks, smooth
from support.rivals import local_search

from dynnas.samplers.architecture import suggest
from dynnas.samplers.history import nondominated
from dynnas.samplers.make import make_sampler
from dynnas.samplers.plain import PlainSampler
from dynnas.space.architecture import Architecture
from dynnas.space.moves import enumerate_all

pytestmark = pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")

SEEDS = 8


@dataclass(frozen=True)
class Case:
    """A table with any number of objectives.

    Attributes:
        problem: the table; its fields for two objectives are not used here.
        losses: [rows, objectives]; nan where an evaluation fails.
        limit: by row above 0 where a limit is broken, which only an evaluation tells; None without a limit.
        at_once: evaluations that run at the same time.
        listed: the only architectures, of a list that is a part of the space.
        told: whether negative losses are told as what is maximised.
    """

    problem: Problem
    losses: np.ndarray
    limit: np.ndarray | None = None
    at_once: int = 1
    listed: tuple[Architecture, ...] = ()
    told: bool = True

    @property
    def allowed(self) -> np.ndarray:
        """[rows] bool: what is evaluated and keeps the limit; of a list, everything counts."""
        kept = np.isfinite(self.losses).all(axis=1)
        return kept if self.limit is None else kept & (self.limit <= 0)


def case_of(problem: Problem, cost: str | None = None) -> Case:
    losses = np.column_stack([-problem.accuracy, problem.costs[cost or next(iter(problem.costs))]])
    return Case(problem, losses)


def three() -> Case:
    """Accuracy, multiply-adds and latency of conditional networks."""
    problem = networks(3)
    return Case(
        problem, np.column_stack([-problem.accuracy, problem.costs["macs"], problem.costs["latency"]])
    )


def four() -> Case:
    """Accuracy and cost of two unlike tables over the same numbers."""
    first, second = smooth(0), smooth(1)
    columns = [-first.accuracy, first.costs["cost"], -second.accuracy, second.costs["cost"]]
    return Case(first, np.column_stack(columns))


def one() -> Case:
    problem = epistatic(0, reach=1)
    return Case(problem, -problem.accuracy[:, None])


def failures() -> Case:
    problem = failing(device_cells(5, "memory"), 0)
    case = case_of(problem)
    return replace(case, losses=np.where(problem.fails[:, None], np.nan, case.losses))


def limited() -> Case:
    """An upper limit on a third metric, which nothing but an evaluation tells; a fifth keeps it."""
    case = case_of(networks(4), "macs")
    latency = case.problem.costs["latency"]
    return replace(case, limit=latency / np.quantile(latency, 0.2) - 1)


def pool() -> Case:
    """A list of 1,000 of 15,625 cells."""
    case = case_of(device_cells(6, "parallel"))
    chosen = np.random.default_rng(0).permutation(len(case.losses))[:1000]
    architectures = list(enumerate_all(case.problem.space))
    return replace(case, listed=tuple(architectures[at] for at in chosen))


CASES: dict[str, Callable[[], Case]] = {
    "one objective": one,
    "three objectives": three,
    "four objectives": four,
    "conditional genes": lambda: case_of(networks(5), "latency"),
    "failures": failures,
    "unknown limit": limited,
    "eight at once": lambda: replace(case_of(device_cells(7, "memory")), at_once=8),
    "pool": pool,
    "error and cost, both minimised": lambda: replace(case_of(device_cells(7, "memory")), told=False),
    "numbers with plateaus": lambda: case_of(smooth(1, plateaus=True)),
}


def volume(case: Case, points: np.ndarray) -> float:
    """The hypervolume up to the worst of the front, and in the first loss up to the median at most."""
    losses = case.losses[case.allowed]
    front = losses[nondominated(losses)]
    reference = front.max(axis=0) + 0.05 * np.ptp(front, axis=0)
    median = float(np.median(losses[:, 0]))
    reference[0] = median if len(reference) == 1 else min(reference[0], median)
    scale = reference - front.min(axis=0)
    inside = points[(points < reference).all(axis=1)] if len(points) else points
    return float(moocore.hypervolume(inside / scale, ref=reference / scale)) if len(inside) else 0.0


def searched(case: Case, sampler: BaseSampler, trials: int) -> float:
    """Return the share of the whole front's hypervolume that a search finds."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    # Negative losses are those of what is maximised.
    signs = np.where(case.told & (np.nanmax(case.losses, axis=0) < 0), -1.0, 1.0)
    directions = ["maximize" if sign < 0 else "minimize" for sign in signs]
    study = optuna.create_study(directions=directions, sampler=sampler)
    found = []
    while len(study.trials) < trials:
        running = [study.ask() for _ in range(case.at_once)]
        rows = [case.problem.row(suggest(trial, case.problem.space)) for trial in running]
        for trial, row in zip(running, rows, strict=True):
            if np.isnan(case.losses[row]).any():
                study.tell(trial, state=TrialState.FAIL)
                continue
            if case.limit is not None:
                trial.set_constraint("limit", float(case.limit[row]))
            study.tell(trial, (signs * case.losses[row]).tolist())
            if case.limit is None or case.limit[row] <= 0:
                found.append(case.losses[row])
    return volume(case, np.array(found)) / volume(case, case.losses[case.allowed])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_guided_finds_no_less_than_local_search_and_chance(name: str) -> None:
    case, trials = CASES[name](), 64
    listed = case.listed or None

    def mean(make: Callable[[int], BaseSampler]) -> float:
        return statistics.mean(searched(case, make(seed), trials) for seed in range(SEEDS))

    def of_name(sampler: str) -> Callable[[int], BaseSampler]:
        return lambda seed: make_sampler(sampler, case.problem.space, population=10, seed=seed, listed=listed)

    guided, chance = mean(of_name("guided")), mean(of_name("random"))
    print(f"{name}: guided {guided:.3f}, chance {chance:.3f}")
    assert guided > chance
    if not listed:  # local search knows nothing of lists
        local = mean(lambda seed: local_search(case.problem.space, seed))
        print(f"{name}: local {local:.3f}")
        assert guided >= local - 0.02  # of eight seeds that is chance


KNOBS: dict[str, BaseDistribution] = {
    "lr": FloatDistribution(1e-5, 1e-1, log=True),
    "width": IntDistribution(8, 512, log=True),
    "layers": IntDistribution(1, 12),
    "dropout": FloatDistribution(0.0, 0.5, step=0.05),
    "decay": FloatDistribution(0.0, 1.0),
    "kind": CategoricalDistribution(("a", "b", "c", None)),
}


def law_of_knobs(params: dict[str, float]) -> tuple[float, float]:
    """Error and cost, as of a network's training."""
    kind = {"a": 0.0, "b": 0.15, "c": -0.1, None: 0.3}[params["kind"]]  # type: ignore[index]
    capacity = np.log(params["width"]) * params["layers"] ** 0.5
    best = -2.5 - 0.1 * params["layers"]
    error = 2 * np.exp(-capacity / 8) + 0.1 * (np.log10(params["lr"]) - best) ** 2 + kind
    error += (params["dropout"] - 0.05 * np.log(params["width"]) / 2) ** 2 + 0.3 * (
        params["decay"] - 0.3
    ) ** 2
    return float(error), float(params["width"] * params["layers"])


@pytest.mark.slow
def test_guided_finds_more_than_chance_and_nsga2_among_knobs() -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def found(sampler: BaseSampler) -> float:
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        for _ in range(60):
            trial = study.ask(KNOBS)
            study.tell(trial, law_of_knobs(trial.params))
        points = np.array([[error, np.log(cost)] for error, cost in (trial.values for trial in study.trials)])
        reference = np.array([2.0, np.log(6000.0)])
        return float(moocore.hypervolume(points[(points < reference).all(axis=1)], ref=reference))

    guided, chance, nsga2 = (
        statistics.mean(found(kind(seed=seed)) for seed in range(SEEDS))
        for kind in (PlainSampler, RandomSampler, optuna.samplers.NSGAIISampler)
    )
    print(f"knobs: guided {guided:.3f}, chance {chance:.3f}, nsga2 {nsga2:.3f}")
    assert guided > max(chance, nsga2)
