"""A study of a table: the trials and the front, without data, supernet or torch."""

from __future__ import annotations

from pathlib import Path

from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.language.study_space import StudySpace
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.search.evaluators.table import TableEvaluator
from dynnas.search.loop import SearchLoop
from dynnas.search.stopping import StopConditions
from dynnas.search.storage.locks import study_lock
from dynnas.search.storage.storage import search_storage
from dynnas.search.storage.studies import open_trials
from dynnas.search.workers.opening import open_cluster, open_pool
from dynnas.study.folder import StudyFolder
from dynnas.study.given import KnownBefore
from dynnas.study.study import Study
from dynnas.workflows.start import begin_study, delete_study, study_sampler


def run_table_study(
    space: StudySpace,
    *,
    folder: str | Path,
    storage: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Study:
    """Search the table of `space`; the same call again continues it, and more trials extend it.

    Args:
        space: of a file with `choices` and `evaluator`, as `load_space` reads it.
        folder: of the study; is made.
        storage: SQLAlchemy URL for the trials, if they are not to be kept in the folder.
        fresh: first delete what the folder holds of a study, and its trials in `storage`.
        progress: told of everything.

    Raises:
        StudyError: the table cannot be used, the folder holds a study made with something else, or another
            process drives it.
    """
    if space.table is None or space.source is None:
        raise StudyError(f"space {space.name!r}: the file has no `evaluator` with a table to search")
    settings = space.settings.search
    evaluator = TableEvaluator(space, space.table, Path(space.source).resolve().parent, settings.seed)
    place = StudyFolder(Path(folder))
    place.path.mkdir(parents=True, exist_ok=True)
    with study_lock(place.lock, f"study {place.path}"):
        if fresh:
            delete_study(place, storage)
        known = KnownBefore().with_settings(space, settings, None, place)
        record = begin_study(space, place, storage, data=evaluator.provenance, settings=space.settings)
        goal = Goal.of(space.table.objectives, {**space.table.limits, **settings.constraints})
        url = storage or place.url(record)
        with search_storage(url, record.name, progress or Progress(), locked=not storage) as held:
            study = open_trials(
                held.storage,
                record.name,
                space,
                goal.objectives,
                study_sampler(space, evaluator, goal, known),
                record.facts,
            )
            with (
                open_cluster(settings.ray, settings.workers) as cluster,
                open_pool(
                    evaluator, goal, workers=settings.workers, cluster=cluster, progress=progress
                ) as pool,
            ):
                loop = SearchLoop(study, space, evaluator, goal, pool=pool, retry=held.retry)
                loop.run(settings.trials, progress or Progress(), stopping=StopConditions.of(settings))
        atomic_write(place.front, loop.front().to_json())
    return Study(place)
