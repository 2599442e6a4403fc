"""The start of a study, of any kind: its record is written, and its sampler made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from dynnas.errors import SpaceError, StudyError
from dynnas.files import atomic_write
from dynnas.language.parser import load_space
from dynnas.language.sections.model import model_text
from dynnas.language.study_space import StudySpace
from dynnas.nn.config.names import CHOOSE, EXITS_AT, GLANCE
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.samplers.architecture import ArchitectureSampler
from dynnas.samplers.make import make_sampler
from dynnas.search.evaluator import AnyEvaluator, cheap_of, listed_of
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import delete_trials
from dynnas.search.storage.urls import kept_url
from dynnas.settings.settings import Settings
from dynnas.space.architecture import Value
from dynnas.space.space import Space
from dynnas.study.folder import StudyFolder, StudyRecord
from dynnas.study.given import KnownBefore

if TYPE_CHECKING:  # it needs torch, which a search of a table does not
    from dynnas.data.dataset import Dataset
    from dynnas.tasks.task import Task


def begin_study(
    space: StudySpace,
    place: StudyFolder,
    storage: str | BaseStorage | None,
    *,
    data: str,
    settings: Settings,
    task: Task | None = None,
    images: tuple[int, ...] = (),
) -> StudyRecord:
    """Write the record of the study, after checking that a study that is there can go on with it.

    Args:
        space: of a file, or an object, whose digest alone is written down.
        place: the folder, which is there.
        storage: SQLAlchemy URL or Optuna storage of the trials, if they are not to be kept in the folder.
        data: digest of what is searched.
        settings: to write down.
        task, images: the meaning of the data, and sizes of the train, search and test splits, if any.

    Raises:
        StudyError: the folder holds a study made with something else, or the storage cannot be opened.
    """
    record = StudyRecord(
        name=_study_name(place),
        storage=kept_url(storage) if isinstance(storage, str) else None,
        space_name=space.name,
        space=space.digest,
        data=data,
        settings=settings,
        class_names=task.names if task else (),
        images=images,
        metrics=task.metrics if task else (),
    )
    if isinstance(storage, str) and not place.record.exists():
        open_storage(storage)  # one that cannot be used should not be written down as the study's
    if place.record.exists():
        record.check_continues(place.read_record(), place.path, (_genes(space), _genes(_space_of(place))))
    if space.source is not None:
        atomic_write(place.space, Path(space.source).read_text(encoding="utf-8-sig"))
    elif text := model_text(space):
        atomic_write(place.space, text)
    atomic_write(place.record, record.to_json())
    return record


def _space_of(place: StudyFolder) -> Space | None:
    """Return the space of the study that is there, if it is kept and can still be read."""
    try:
        return load_space(place.space) if place.space.exists() else None
    except SpaceError:
        return None


def _genes(space: Space | None) -> dict[str, list[Value]]:
    return {gene.name: list(gene.values) for gene in space.genes} if space else {}


_ANSWERS = {"image": "an image as a whole", "pixels": "pixels", "boxes": "boxes"}


def tell_contradictions(space: Space, dataset: Dataset, progress: Progress) -> None:
    """Report where channels or classes in a space file differ from those of the data, which are taken.

    Also report a head of the task that is not used.
    """
    kinds = getattr(space.model, "kinds", () if space.network else None)
    if dataset.task.has_own_head and kinds is not None and "task" not in kinds:
        progress.message(
            f"warning: the task {dataset.task.name} builds a head of its own, and networks of the space "
            f"{space.name} end in another; say head: {{kind: task}} in the file to take it"
        )
    told = space.network or getattr(space.model, "template", None)
    stated = {name: getattr(told, name, None) for name in ("channels", "classes")}
    for name, said in stated.items():
        count = dataset.channels if name == "channels" else dataset.task.outputs
        if said is not None and count and said != count:
            progress.message(
                f"warning: input.{name} of the space {space.name} is {said}, but the data {dataset.name} "
                f"have {count}, which is taken; leave it out of the file to let the data say"
            )


def check_network_fits(space: Space, task: Task) -> None:
    """Check that the networks of a space can do the task.

    Raises:
        StudyError: their outputs are none of its, or it has not the confidence that exits leave by.
    """
    from dynnas.nn.config.template import NetworkTemplate  # needs torch, as a task does
    from dynnas.nn.config.vocabulary import OF_TASK

    outputs = getattr(space.model, "outputs", None)
    if outputs is not None and outputs != task.outputs:
        raise StudyError(
            f"space {space.name}: its networks give {outputs} outputs, and the data ask for {task.outputs}; "
            f"replace the head: dynnas.elastic(network, images, classes={task.outputs})"
        )
    network = space.network
    kinds = getattr(space.model, "kinds", (OF_TASK,))
    if not task.outputs and (isinstance(network, NetworkTemplate) or kinds != (OF_TASK,)):
        raise StudyError(
            f"space {space.name}: its networks end in a head of a number of outputs, which the task "
            f"{task.name} does not say; give outputs: N among its options, a head of its own, or search "
            "networks of your own"
        )
    answers = (
        "image" if isinstance(network, NetworkTemplate) else getattr(space.model, "answers", task.answers)
    )
    if answers and answers != task.answers:
        raise StudyError(
            f"space {space.name}: its networks answer for {_ANSWERS.get(answers, answers)}, and the task "
            f"{task.name} asks for {_ANSWERS.get(task.answers, task.answers)}; say the task in the file, "
            f"data: {{task: {task.name}}}, or the head: {{kind: ...}} (task: what the task builds), or "
            "search networks of your own"
        )
    if not isinstance(network, NetworkTemplate) or task.name == "classification":
        return
    looks = [value for gene in space.genes if gene.name == CHOOSE for value in gene.values]
    if EXITS_AT in {gene.name for gene in space.genes} or any(str(look).startswith(GLANCE) for look in looks):
        raise StudyError(
            f"space {space.name}: images leave its networks early where a class is likely enough, and the "
            f"task {task.name} has no classes; leave out `exits` and glances"
        )


def delete_study(place: StudyFolder, storage: str | BaseStorage | None = None) -> None:
    """Delete what `place.owned()` lists, and the study's trials at the URL `storage` if they lie there."""
    if isinstance(storage, str):
        delete_trials(storage, _study_name(place))
    place.delete()


def _study_name(place: StudyFolder) -> str:
    """Return the name of the trials: the folder's, or the one from before the folder was renamed."""
    return place.read_record().name if place.record.exists() else place.path.resolve().name


def study_sampler(
    space: StudySpace,
    evaluator: AnyEvaluator,
    goal: Goal,
    known: KnownBefore,
    sampler: BaseSampler | None = None,
) -> ArchitectureSampler:
    """Return `sampler`, or the one that the settings of `space` name, for a study of `evaluator`."""
    settings = space.settings.search
    return make_sampler(
        sampler or settings.sampler,
        space,
        population=settings.population,
        seed=settings.seed,
        goal=goal,
        cheap=cheap_of(evaluator),
        listed=listed_of(evaluator),
        parallel=settings.workers > 1 or settings.ray is not None,
        starts=known.starts,
        earlier=known.earlier,
    )
