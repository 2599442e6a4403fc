"""`dynnas.search`: search a space with any evaluator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynnas.errors import StudyError
from dynnas.pareto.front import Front
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.search.evaluator import AnyEvaluator, cheap_of, listed_of
from dynnas.search.loop import Driver
from dynnas.search.stopping import Stopping
from dynnas.search.storage.storage import driving_storage, open_trials
from dynnas.search.workers.opening import open_cluster, open_crew
from dynnas.space.space import Space


def search(
    space: Space,
    evaluator: AnyEvaluator,
    *,
    sampler: str = "guided",
    trials: int = 100,
    minutes: float | None = None,
    target: Mapping[str, float] | None = None,
    patience: int | None = None,
    storage: str | None = None,
    seed: int = 0,
    objectives: Sequence[str] | Mapping[str, str] | None = None,
    constraints: Mapping[str, float] | None = None,
    population: int = 10,
    name: str | None = None,
    workers: int = 1,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Front:
    """Search `space` for the architectures that trade the objectives off best.

    No architecture is evaluated twice. A candidate whose evaluation fails is recorded with the reason and the
    search goes on. With a `storage`, a search that was interrupted, even killed, continues when called again
    with the same arguments, and proposes what it would have proposed anyhow; more `trials` extend it.

    Args:
        space: what `dynnas.load_space` returns; a space of plain `choices` needs no network.
        evaluator: anything with `evaluate(architecture) -> {"metric": number}`, or `stages(architecture)`,
            a generator of such parts, cheapest first: those after a broken constraint are never computed. If
            it has `cheap(architecture)` as well, which gives those metrics that are known without evaluating
            (None for an architecture that cannot be), guided and evolution look ahead with it.
        sampler: guided | evolution | autoslim | autoslim-rate | random | nsga2 | nsga3 | tpe | gp, as
            `dynnas.samplers.make.make_sampler` describes them.
        trials: candidates in all, counting those of earlier runs on the same storage.
        minutes: end this call after that time.
        target: end when one candidate reaches all these values of metrics.
        patience: end after so many trials in which the front's hypervolume did not grow.
        storage: an SQLAlchemy URL, such as `sqlite:///study.db`, that the Optuna dashboard can open; None for
            memory.
        seed: draws the candidates.
        objectives: names in `dynnas.settings.metrics.METRICS`, or {"any name": "maximize" | "minimize"};
            those of the space's settings if None.
        constraints: upper limits by metric.
        population: a generation of nsga2 and nsga3; random candidates before tpe and gp begin.
        name: the study's name in the storage; the space's if None.
        workers: with more than 1, so many processes evaluate. Each gets a copy of `evaluator` by pickle:
            its class must be one that can be imported, and a script needs `if __name__ == "__main__":`.
        ray: the Ray cluster whose actors are the workers, one a processor if `workers` is 1: "local" starts
            one on this machine, "auto" is the one that it is part of; or host:port.
        progress: told of every trial.

    Returns:
        The Pareto front of all feasible candidates, cheapest first; empty if there are none.

    Raises:
        StudyError: an argument is not allowed, the storage holds another study of this name, another process
            searches it, or evaluations keep failing.

    Example: a table of measurements of your own.

        >>> import dynnas
        >>> from dynnas.language.parser import parse_space
        >>> space = parse_space("choices: {kernel: [3, 5], width: [16, 32, 64], op: [static, condconv]}")
        >>> class Table:
        ...     def evaluate(self, architecture):
        ...         gain = 1.1 if architecture["op"] == "condconv" else 1.0
        ...         cost = architecture["width"] * architecture["kernel"] ** 2
        ...         return {"accuracy": 1 - 1 / (gain * cost), "latency_ms": cost / 100 * gain}
        >>> front = dynnas.search(space, Table(), trials=12, seed=1, objectives=("accuracy", "latency_ms"))
        >>> dict(front.pick("fastest").architecture)
        {'kernel': 3, 'width': 16, 'op': 'static'}
        >>> front.pick("most-accurate").metrics["latency_ms"]
        17.6
    """
    goal = Goal.of(objectives or space.settings.search.objectives, constraints)
    if trials < 1 or population < 2:
        raise StudyError(
            f"search: trials is {trials} and population {population}; at least 1 and 2 are needed"
        )
    chosen = make_sampler(
        sampler,
        space,
        population=population,
        seed=seed,
        goal=goal,
        cheap=cheap_of(evaluator),
        listed=listed_of(evaluator),
        parallel=workers > 1 or ray is not None,
    )
    name = name or space.name
    stopping = Stopping(minutes, target or {}, patience)
    stopping.check(goal)
    with driving_storage(storage, name, progress or Progress()) as held:
        study = open_trials(held, name, space, goal.objectives, chosen)
        with (
            open_cluster(ray, workers) as cluster,
            open_crew(evaluator, goal, workers=workers, cluster=cluster, progress=progress) as crew,
        ):
            driver = Driver(study, space, evaluator, goal, crew=crew)
            driver.run(trials, progress or Progress(), stopping=stopping)
        return driver.front()
