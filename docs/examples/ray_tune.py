"""Ray Tune drives a search: its actors score architectures, a sampler of dynnas proposes them.

    python docs/examples/ray_tune.py sqlite:///cells.db

The trials lie in an ordinary study: the Optuna dashboard shows it, and `dynnas.search(space, evaluator,
storage="sqlite:///cells.db")` continues it. Needs the extra `ray`.
"""

from __future__ import annotations

import sys
from functools import partial

import optuna
from optuna.storages import RDBStorage
from ray import tune
from ray.tune.search import ConcurrencyLimiter
from ray.tune.search.optuna import OptunaSearch

from dynnas.language.parser import parse_space
from dynnas.pareto.front import Front
from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import suggest
from dynnas.samplers.make import make_sampler
from dynnas.samplers.trials import candidates_of
from dynnas.search.storage.studies import load_trials
from dynnas.space.space import Space

SPACE = "{name: cells, choices: {kernel: [3, 5], width: [16, 32, 64], op: [static, condconv]}}"
OBJECTIVES = {"accuracy": "maximize", "latency_ms": "minimize"}


def score(values: dict[str, object]) -> None:
    """Score one architecture; an actor of Tune calls it. A table stands for a training here."""
    gain = 1.1 if values["op"] == "condconv" else 1.0
    cost = float(values["width"]) * float(values["kernel"]) ** 2  # type: ignore[arg-type]
    tune.report({"accuracy": 1 - 1 / (gain * cost), "latency_ms": cost / 100 * gain})


def define(trial: optuna.Trial, space: Space) -> None:
    """Ask a trial for the values of its architecture; Tune wants a function that it can pickle."""
    suggest(trial, space)


def search(url: str, trials: int = 10, actors: int = 2) -> Front:
    """Search the space above with Tune; the front of all trials in the storage."""
    space, goal = parse_space(SPACE), Goal.of(OBJECTIVES)
    sampler = make_sampler("guided", space, population=4, seed=0, goal=goal, parallel=actors > 1)

    proposals = OptunaSearch(
        space=partial(define, space=space),
        metric=list(OBJECTIVES),
        mode=["max", "min"],
        sampler=sampler,
        study_name=space.name,
        storage=RDBStorage(url),
    )
    tuner = tune.Tuner(
        tune.with_resources(score, {"cpu": 1}),
        tune_config=tune.TuneConfig(
            search_alg=ConcurrencyLimiter(proposals, max_concurrent=actors), num_samples=trials
        ),
    )
    tuner.fit()
    study = load_trials(url, space.name)
    assert study is not None
    return Front.of(candidates_of(study, space, goal), goal.objectives)


if __name__ == "__main__":
    for member in search(*sys.argv[1:2] or ["sqlite:///cells.db"]):
        print(dict(member.architecture), dict(member.metrics))
