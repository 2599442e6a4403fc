"""A study of a table: the trials and the front, without data, supernet or torch."""

from __future__ import annotations

from pathlib import Path

from dynnas.errors import StudyError
from dynnas.progress import Progress
from dynnas.search.crew.opening import open_cluster, open_crew
from dynnas.search.driver import Driver
from dynnas.search.folder import StudyFolder, StudyRecord, write_whole
from dynnas.search.goal import Goal
from dynnas.search.samplers import make_sampler
from dynnas.search.stopping import Stopping
from dynnas.search.storage import delete_trials, driving_storage, kept_url, only_driver, open_trials
from dynnas.search.study import Study
from dynnas.search.table_evaluator import TableEvaluator
from dynnas.space import Space


def run_table_study(
    space: Space,
    *,
    folder: str | Path,
    storage: str | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
) -> Study:
    """Search the table of `space`; called again with the same arguments it goes on, with more trials further.

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
    source = Path(space.source)
    evaluator = TableEvaluator(space, space.table, source.resolve().parent, settings.seed)
    place = StudyFolder(Path(folder))
    place.path.mkdir(parents=True, exist_ok=True)
    with only_driver(place.lock, f"study {place.path}"):
        name = place.read_record().name if place.record.exists() else place.path.resolve().name
        if fresh:
            if storage:
                delete_trials(storage, name)
            place.delete()
        record = StudyRecord(
            name=name,
            storage=kept_url(storage) if storage else None,
            space_name=space.name,
            space=space.digest,
            data=evaluator.provenance,
            settings=space.settings,
        )
        if place.record.exists():
            record.check_continues(place.read_record(), place.path)
        write_whole(place.space, source.read_text(encoding="utf-8-sig"))
        write_whole(place.record, record.to_json())
        goal = Goal.of(space.table.objectives, {**space.table.limits, **settings.constraints})
        sampler = make_sampler(
            settings.sampler,
            space,
            population=settings.population,
            seed=settings.seed,
            goal=goal,
            cheap=evaluator.cheap,
            listed=evaluator.listed(),
            parallel=settings.workers > 1 or settings.ray is not None,
        )
        url = storage or place.url(record)
        with driving_storage(url, name, progress or Progress(), locked=not storage) as held:
            study = open_trials(held, name, space, goal.objectives, sampler)
            with (
                open_cluster(settings.ray, settings.workers) as cluster,
                open_crew(
                    evaluator, goal, workers=settings.workers, cluster=cluster, progress=progress
                ) as crew,
            ):
                driver = Driver(study, space, evaluator, goal, crew=crew)
                driver.run(settings.trials, progress or Progress(), stopping=Stopping.of(settings))
        write_whole(place.front, driver.front().to_json())
    return Study(place)
