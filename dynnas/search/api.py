"""A search with any evaluator, whose trials an Optuna storage keeps."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from dynnas.errors import StudyError
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.search.evaluator import AnyEvaluator, cheap_of, listed_of
from dynnas.search.loop import SearchLoop
from dynnas.search.stopping import StopConditions
from dynnas.search.storage.storage import search_storage
from dynnas.search.storage.studies import open_trials
from dynnas.search.workers.opening import open_cluster, open_pool
from dynnas.settings.settings import SearchSettings
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space


def search_with(
    space: Space,
    evaluator: AnyEvaluator,
    goal: Goal,
    settings: SearchSettings,
    *,
    sampler: BaseSampler | None = None,
    starts: Sequence[Architecture] = (),
    earlier: Sequence[ScoredArchitecture] = (),
    storage: str | BaseStorage | None = None,
    name: str | None = None,
    progress: Progress | None = None,
) -> Front:
    """Search `space` with `evaluator`; all else is as `dynnas.workflows.search.search` says.

    Args:
        space: of the architectures.
        evaluator: scores them.
        goal: objectives and limits.
        settings: how long, with which workers, and by which sampler unless one is given.
        sampler: proposes architectures.
        starts: architectures to propose first.
        earlier: results of another study, for a sampler that learns from them.
        storage: URL or storage of the trials; None for memory.
        name: of the study in the storage; the space's if None.
        progress: told of every trial.

    Raises:
        StudyError: a setting is not allowed, the storage holds another study of this name, another process
            searches it, or evaluations keep failing.
    """
    if settings.trials < 1 or settings.population < 2:
        raise StudyError(
            f"search: trials is {settings.trials} and population {settings.population}; "
            "at least 1 and 2 are needed"
        )
    chosen = make_sampler(
        sampler or settings.sampler,
        space,
        population=settings.population,
        seed=settings.seed,
        goal=goal,
        cheap=cheap_of(evaluator, goal),
        listed=listed_of(evaluator),
        parallel=settings.workers > 1 or settings.ray is not None,
        starts=starts,
        earlier=earlier,
    )
    name, progress = name or space.name, progress or Progress()
    stopping = StopConditions.of(settings)
    stopping.check(goal)
    with search_storage(storage, name, progress) as held:
        study = open_trials(held.storage, name, space, goal.objectives, chosen, _facts(evaluator))
        with (
            open_cluster(settings.ray, settings.workers) as cluster,
            open_pool(evaluator, goal, workers=settings.workers, cluster=cluster, progress=progress) as pool,
        ):
            loop = SearchLoop(study, space, evaluator, goal, pool=pool, retry=held.retry)
            loop.run(settings.trials, progress, stopping=stopping)
        return loop.front()


def _facts(evaluator: AnyEvaluator) -> dict[str, str]:
    """Return what an evaluator states about everything that its numbers depend on, if it does."""
    provenance = getattr(evaluator, "provenance", None)
    return {"evaluator": provenance} if isinstance(provenance, str) else {}
