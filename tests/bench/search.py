"""How many evaluations our samplers need, beside searches next to no model and Optuna's samplers.

    python tests/bench/search.py [--problems nbmacro,cells0,...] [--methods guided,local,...] [--seeds 10]
        [--trials 1000] [--noise 0.15] [--jobs 2] [--results runs.jsonl]

A problem is a table whose whole front is known (tests/support/problems.py and trained_cells.py). Printed are
the share of the whole front's hypervolume that is found, as a mean over seeds (reference: median accuracy,
1.05 times the cost of the most accurate), and the median of the evaluations until it is 95% and 99%; at the
end the same over all problems, with the worst of them and the worst run.

`NAME-known` knows the cost before it evaluates, as the number of parameters is known; without it ours learn
the cost, too. `NAME-told` knows the deviation of `--noise`. Rivals are searches with next to no model
(`local`, `ridge`), LINAS (`linas`), all of tests/support/rivals.py, BoTorch's qLogNEHVI and SMAC's ParEGO
(`botorch` and `smac`, which need the extra `bench`), and Optuna's plain samplers, with Optuna's
defaults: their repeats count as evaluations, as they would cost one in a plain study.

In the problems `failing`, 30 of 100 networks cannot be evaluated, which only trying them shows.

`--noise` adds to every accuracy a sampler is told; the shares are of the true ones. Behind them is the share
of the networks that a user would take: those on the front of what was told.

`--results` keeps every run in a file of JSON lines as it ends, so that the same command goes on where it was
interrupted, and later ones add problems, methods and seeds. Runs of an earlier state of dynnas/samplers are
made again; those of rivals are not. A run of more trials serves where fewer are asked for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import TrialState

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.problems import (
    MACRO_FILE,
    Evaluation,
    Problem,
    cells,
    device_cells,
    epistatic,
    failing,
    fractions,
    macro,
    networks,
    smooth,
)
from support.rivals import linas_search, local_search, ridge_search
from support.trained_cells import DEVICES, trained_cells

from dynnas import samplers
from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import suggest
from dynnas.samplers.history import nondominated
from dynnas.samplers.make import make_sampler
from dynnas.space.space import Space

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
    **{
        f"trained-{device}": partial(trained_cells, seed, ("ten", "hundred", "thousand")[seed % 3], device)
        for seed, device in enumerate(DEVICES)
    },
    **{f"unrelated{seed}": partial(smooth, seed, related=False) for seed in (0, 1)},
    "failing-cells": lambda: failing(device_cells(5, "memory"), 0),
    "failing-networks": lambda: failing(networks(2), 1),
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


@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        shares: of the hypervolume after every evaluation.
        overhead_ms: each proposal's processor milliseconds.
        taken: the share of those that are the best by what was told, at the end.
    """

    shares: np.ndarray
    overhead_ms: np.ndarray
    taken: float

    def reached(self, share: float) -> float:
        """How many evaluations that took; infinite if it was not reached."""
        at = np.flatnonzero(self.shares >= share)
        return float(at[0] + 1) if len(at) else float("inf")


class Results:
    """Finished runs, kept in a file of JSON lines if one is named."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, Found] = {}
        if path is not None and path.exists():
            for line in path.read_text().splitlines():
                entry = json.loads(line)
                self._add(entry.pop("run"), entry)

    def _add(self, key: str, entry: dict[str, Any]) -> None:
        known = self._found.get(key)
        if known is None or len(known.shares) < entry["trials"]:
            shares = np.zeros(entry["trials"])
            for at, share in entry["gains"]:
                shares[at:] = share
            self._found[key] = Found(shares, np.array(entry["overhead_ms"]), entry.get("taken", float("nan")))

    def get(self, job: Job) -> Found | None:
        """Return the run of `job`, if there is one of at least as many trials."""
        known = self._found.get(_key(job))
        if known is None or len(known.shares) < job.trials:
            return None
        taken = known.taken if len(known.shares) == job.trials else float("nan")
        return Found(known.shares[: job.trials], known.overhead_ms, taken)

    def keep(self, job: Job, found: Found) -> None:
        """Write a run down; of its overheads the mean and the 99th of 100 are kept."""
        before = np.concatenate([[0.0], found.shares[:-1]])
        gains = [[int(at), float(found.shares[at])] for at in np.flatnonzero(found.shares > before)]
        overhead = [float(found.overhead_ms.mean()), float(np.quantile(found.overhead_ms, 0.99))]
        entry = {"trials": job.trials, "gains": gains, "overhead_ms": overhead, "taken": found.taken}
        self._add(_key(job), entry)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps({"run": _key(job), **entry}) + "\n")


def _key(job: Job) -> str:
    """Return what tells a run apart from all others, but for its number of trials."""
    facts = {name: value for name, value in asdict(job).items() if name != "trials"}
    return json.dumps({**facts, "code": "" if job.method in RIVALS else _state_of_samplers()})


@cache
def _state_of_samplers() -> str:
    files = sorted(Path(samplers.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


@cache
def problem_of(name: str) -> Problem:
    return PROBLEMS[name]()


def botorch(space: Space, seed: int) -> BaseSampler:
    """BoTorch is no dependency: it is loaded where it is asked for."""
    from support.botorch_rival import botorch_search

    return botorch_search(space, seed)


def smac(space: Space, seed: int) -> BaseSampler:
    """SMAC is no dependency, either."""
    from support.smac_rival import smac_search

    return smac_search(space, seed)


# Rivals by name, made for a space with a seed; `optuna-*` are Optuna's own, as they come.
RIVALS: dict[str, Callable[[Space, int], BaseSampler]] = {
    "optuna-random": lambda space, seed: RandomSampler(seed=seed),
    "optuna-nsga2": lambda space, seed: NSGAIISampler(seed=seed),
    "optuna-tpe": lambda space, seed: TPESampler(seed=seed, multivariate=True, group=True),
    "optuna-gp": lambda space, seed: GPSampler(seed=seed),
    "local": local_search,
    "ridge": ridge_search,
    "linas": linas_search,
    "botorch": botorch,
    "smac": smac,
}


def sampler_of(job: Job, problem: Problem, evaluation: Evaluation) -> BaseSampler:
    """Return a rival, or one of `make_sampler`."""
    if job.method in RIVALS:
        return RIVALS[job.method](problem.space, job.seed)
    goal = Goal.of({"accuracy": "maximize", job.cost: "minimize"})
    cheap = evaluation.cheap if job.method.endswith("-known") else None
    return make_sampler(
        job.method.removesuffix("-known").removesuffix("-told"),
        problem.space,
        population=POPULATION,
        seed=job.seed,
        goal=goal,
        cheap=cheap,
        errors={"accuracy": job.noise} if job.method.endswith("-told") else None,
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
    visited, overheads, told = [], [], {}
    for _ in range(job.trials):
        start = time.process_time()
        trial = study.ask()
        architecture = suggest(trial, problem.space)
        overheads.append(1000 * (time.process_time() - start))
        visited.append(problem.row(architecture))
        if problem.fails is not None and problem.fails[visited[-1]]:
            study.tell(trial, state=TrialState.FAIL)
            continue
        metrics = evaluation.evaluate(architecture)
        study.tell(trial, [metrics["accuracy"], metrics[job.cost]])
        told[visited[-1]] = [-metrics["accuracy"], metrics[job.cost]]
    front = nondominated(np.array(list(told.values())))
    taken = [row for row, best in zip(told, front, strict=True) if best]
    return Found(
        fractions(problem, job.cost, visited),
        np.array(overheads),
        float(fractions(problem, job.cost, taken)[-1]),
    )


def report(name: str, found: list[Found], trials: int, noise: float = 0.0) -> str:
    marks = [mark for mark in MARKS if mark <= trials]
    shares = "  ".join(f"{mark}: {np.mean([one.shares[mark - 1] for one in found]):.3f}" for mark in marks)
    to95, to99 = (statistics.median(one.reached(share) for one in found) for share in (0.95, 0.99))
    overhead = np.concatenate([one.overhead_ms for one in found])
    taken = f"taken: {np.mean([one.taken for one in found]):.3f}  " if noise else ""
    return (
        f"{name:32} {shares}  95%: {to95:5.0f}  99%: {to99:5.0f}  {taken}"
        f"overhead {overhead.mean():.1f} ms, 99 of 100 below {np.quantile(overhead, 0.99):.0f}"
    )


def summary(method: str, found: dict[str, list[Found]], trials: int) -> str:
    """Over all problems, which count alike."""
    marks = [mark for mark in MARKS if mark <= trials]
    worst = []
    for mark in marks:
        shares = {name: [one.shares[mark - 1] for one in runs] for name, runs in found.items()}
        lowest = min(shares, key=lambda name: float(np.mean(shares[name])))
        least = min(min(runs) for runs in shares.values())
        worst.append(f"{mark}: {lowest} {np.mean(shares[lowest]):.3f}, a run {least:.3f}")
    runs = [one for runs in found.values() for one in runs]
    return report(f"all {len(found)}: {method}", runs, trials) + "\n    worst at " + "; ".join(worst)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    known = [name for name in PROBLEMS if name != "nbmacro" or MACRO_FILE.exists()]
    parser.add_argument("--problems", default=",".join(known))
    parser.add_argument(
        "--methods",
        default="guided,guided-known,evolution,local,ridge,optuna-random,optuna-nsga2,optuna-tpe",
        help="comma-separated",
    )
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", type=Path, help="a file to keep runs in, and to take them from")
    options = parser.parse_args()
    methods, results = options.methods.split(","), Results(options.results)
    for rival in ("botorch", "smac"):
        if rival in methods and find_spec(rival) is None:
            print(f"{rival}: not installed (pip install 'dynnas[bench]'), left out")
            methods.remove(rival)
    found: dict[str, dict[str, list[Found]]] = {method: {} for method in methods}
    with ProcessPoolExecutor(options.jobs) as pool:
        for name in options.problems.split(","):
            for cost in problem_of(name).costs:
                for method in methods:
                    jobs = [
                        Job(name, cost, method, seed, options.trials, options.noise)
                        for seed in range(options.seeds)
                    ]
                    missing = [job for job in jobs if results.get(job) is None]
                    for job, one in zip(missing, pool.map(run, missing), strict=True):
                        results.keep(job, one)
                    runs = [one for job in jobs if (one := results.get(job)) is not None]
                    found[method][f"{name} {cost}"] = runs
                    print(report(f"{name} {cost} {method}", runs, options.trials, options.noise), flush=True)
    for method in methods:
        print(summary(method, found[method], options.trials))


if __name__ == "__main__":
    main()
