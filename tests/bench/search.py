"""How many evaluations our samplers need, beside random search and Optuna's NSGA-II and TPE.

    python tests/bench/search.py [--problems nbmacro,cells0,...] [--methods guided,nsga2,...] [--seeds 10]
        [--trials 1000] [--noise 0.15] [--learned] [--jobs 2]

A problem is a table whose whole front is known (tests/support/problems.py). Printed are the share of the
whole front's hypervolume that is found, as a mean over seeds (reference: median accuracy, 1.05 times the cost
of the most accurate), and the median of the evaluations until it is 95% and 99%. Rivals are searches with
next to no model (`local` and `ridge`, tests/support/rivals.py) and Optuna's plain samplers, with Optuna's
defaults: their repeats count as evaluations, as they would cost one in a plain study.
Ours know the cost in advance, as a table's column or a count of parameters is known; with `--learned` they
learn it.

`--noise` adds to every accuracy a sampler is told; the shares are of the true ones.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.problems import (
    MACRO_FILE,
    Evaluation,
    Problem,
    cells,
    device_cells,
    epistatic,
    fractions,
    macro,
    networks,
    smooth,
)
from support.rivals import local_search, ridge_search

from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import suggest
from dynnas.samplers.make import make_sampler

PROBLEMS: dict[str, Callable[[], Problem]] = {
    "nbmacro": macro,
    "cells0": partial(cells, 0),
    "cells1": partial(cells, 1, unlearnable=0.15),
    "networks0": partial(networks, 0),
    "networks1": partial(networks, 1, unlearnable=0.05),
    **{
        f"{device}{seed}": partial(device_cells, seed, device)
        for device in ("parallel", "memory", "scalar", "steps", "dear")
        for seed in (0, 1, 2)
    },
    **{f"epistatic{seed}": partial(epistatic, seed, reach=1 + seed) for seed in (0, 1, 2)},
    **{f"smooth{seed}": partial(smooth, seed) for seed in (0, 1)},
    **{f"plateaus{seed}": partial(smooth, seed, plateaus=True) for seed in (0, 1)},
    **{f"unrelated{seed}": partial(smooth, seed, related=False) for seed in (0, 1)},
}
MARKS = (30, 100, 300, 1000)
POPULATION = 10


@dataclass(frozen=True)
class Job:
    """One search."""

    problem: str
    cost: str
    method: str
    seed: int
    trials: int
    noise: float
    learned: bool


@dataclass(frozen=True)
class Found:
    """The share of the hypervolume after every evaluation, and each proposal's processor milliseconds."""

    shares: np.ndarray
    overhead_ms: np.ndarray

    def reached(self, share: float) -> float:
        """How many evaluations that took; infinite if it was not reached."""
        at = np.flatnonzero(self.shares >= share)
        return float(at[0] + 1) if len(at) else float("inf")


@cache
def problem_of(name: str) -> Problem:
    return PROBLEMS[name]()


def sampler_of(job: Job, problem: Problem, evaluation: Evaluation) -> BaseSampler:
    """`optuna-*` are Optuna's own, as they come; the others are those of `make_sampler`."""
    plain: dict[str, Callable[[], BaseSampler]] = {
        "optuna-random": lambda: RandomSampler(seed=job.seed),
        "optuna-nsga2": lambda: NSGAIISampler(seed=job.seed),
        "optuna-tpe": lambda: TPESampler(seed=job.seed, multivariate=True, group=True),
        "local": lambda: local_search(problem.space, job.seed),
        "ridge": lambda: ridge_search(problem.space, job.seed),
    }
    if job.method in plain:
        return plain[job.method]()
    goal = Goal.of({"accuracy": "maximize", job.cost: "minimize"})
    cheap = None if job.learned else evaluation.cheap
    return make_sampler(
        job.method, problem.space, population=POPULATION, seed=job.seed, goal=goal, cheap=cheap
    )


def run(job: Job) -> Found:
    """Search once."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    problem = replace(problem_of(job.problem), noise=job.noise)
    evaluation = Evaluation(problem, job.cost, rng=np.random.default_rng(job.seed))
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=sampler_of(job, problem, evaluation)
    )
    visited, overheads = [], []
    for _ in range(job.trials):
        start = time.process_time()
        trial = study.ask()
        architecture = suggest(trial, problem.space)
        overheads.append(1000 * (time.process_time() - start))
        visited.append(problem.row(architecture))
        metrics = evaluation.evaluate(architecture)
        study.tell(trial, [metrics["accuracy"], metrics[job.cost]])
    return Found(fractions(problem, job.cost, visited), np.array(overheads))


def report(job: Job, found: list[Found]) -> str:
    marks = [mark for mark in MARKS if mark <= job.trials]
    shares = "  ".join(f"{mark}: {np.mean([one.shares[mark - 1] for one in found]):.3f}" for mark in marks)
    to95, to99 = (statistics.median(one.reached(share) for one in found) for share in (0.95, 0.99))
    overhead = np.concatenate([one.overhead_ms for one in found])
    return (
        f"{job.problem:10} {job.cost:8} {job.method:14} {shares}  95%: {to95:5.0f}  99%: {to99:5.0f}  "
        f"overhead {overhead.mean():.1f} ms, 99 of 100 below {np.quantile(overhead, 0.99):.0f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = [name for name in PROBLEMS if name != "nbmacro" or MACRO_FILE.exists()]
    parser.add_argument("--problems", default=",".join(known))
    parser.add_argument(
        "--methods", default="guided,evolution,optuna-random,optuna-nsga2,optuna-tpe", help="comma-separated"
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--learned", action="store_true", help="ours learn the cost as well")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args()
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in options.problems.split(","):
            for cost in problem_of(name).costs:
                for method in options.methods.split(","):
                    jobs = [
                        Job(name, cost, method, seed, options.trials, options.noise, options.learned)
                        for seed in range(options.seeds)
                    ]
                    print(report(jobs[0], list(pool.map(run, jobs))), flush=True)


if __name__ == "__main__":
    main()
