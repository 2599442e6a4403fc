"""The function `dynnas.search`: it searches a space, with your own evaluator or with a trained supernet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynnas.errors import StudyError
from dynnas.language.study_space import StudySpace
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.search.api import search_with
from dynnas.search.evaluator import AnyEvaluator
from dynnas.settings.settings import SearchSettings, TargetSettings, TrainSettings
from dynnas.space.architecture import Value
from dynnas.space.gene import OF_TARGET
from dynnas.space.space import Space
from dynnas.study.given import KnownBefore

# What needs torch is imported where a supernet is trained.
if TYPE_CHECKING:
    from optuna.samplers import BaseSampler
    from optuna.storages import BaseStorage

    from dynnas.data.dataset import Dataset
    from dynnas.metrics.measurement import Measurement
    from dynnas.tasks.task import Task


def search(
    space: Space,
    evaluator: AnyEvaluator | None = None,
    *,
    data: Dataset | str | Path | Sequence[Any] | Mapping[str, Any] | None = None,
    task: Task | None = None,
    target: TargetSettings | None = None,
    devices: Mapping[str, TargetSettings] | None = None,
    train: TrainSettings | None = None,
    measurements: Sequence[Measurement] = (),
    objectives: Sequence[str] | Mapping[str, str] | None = None,
    limits: Mapping[str, float] | None = None,
    sampler: str | BaseSampler | None = None,
    starts: Sequence[Mapping[str, Value] | str] = (),
    earlier: Sequence[ScoredArchitecture | str] = (),
    trials: int | None = None,
    minutes: float | None = None,
    until: Mapping[str, float] | None = None,
    patience: int | None = None,
    population: int | None = None,
    controls: bool | None = None,
    seed: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
    storage: str | BaseStorage | None = None,
    name: str | None = None,
    folder: str | Path | None = None,
    progress: Progress | None = None,
) -> Front:
    """Search `space` for the architectures that trade the objectives off best.

    With an `evaluator` it is asked for the metrics of every candidate. Without one, a supernet over the space
    is trained, candidates are measured with its weights, and what was found is kept as a study: `front.study`
    loads, exports and reports its networks.

    No architecture is evaluated twice. A candidate whose evaluation fails is recorded with the reason and the
    search goes on. A search that was interrupted, even killed, continues when called again with the same
    arguments and proposes what it would have proposed anyhow (with an evaluator, given a `storage`); more
    `trials` extend it. Whatever is None is as the settings of a space file say, or by default.

    Args:
        space: what `dynnas.load_space` returns; a space of plain `choices` needs an evaluator.
        evaluator: anything with `evaluate(architecture) -> {"metric": number}`, or `stages(architecture)`,
            a generator of such parts, cheapest first: those after a broken limit are never computed. If
            it has `cheap(architecture)` as well, which gives those metrics that are known without evaluating
            (None for an architecture that cannot be), guided and evolution look ahead with it.
        data: what `data.source` of a space file may be; or (train, search, test) or (train, test), each a
            torch data set, a pair of arrays (images, targets) or an iterable of batches, as
            `dynnas.data.given.dataset_of` takes them; or a data set that it made.
        task: what the targets of such splits mean; classification if they are whole numbers.
        target: where latency is measured.
        devices: further ones by name; `latency_ms@name` may be an objective or a limit.
        train: how the supernet is trained.
        measurements: further ones to take of every candidate; their metrics may be objectives and limits.
        objectives: names of metrics, or {"any name": "maximize" | "minimize"}.
        limits: upper limits by metric.
        sampler: an Optuna sampler, or guided | evolution | autoslim | autoslim-rate | random | nsga2 |
            nsga3 | tpe | gp, as `dynnas.samplers.make.make_sampler` describes them.
        starts: what to propose first: architectures, or their values by gene; or what `search.starts` of a
            space file may be.
        earlier: results of a search of the same networks, for another device, say, from which guided learns:
            a front, or what `search.earlier` of a space file may be.
        trials: candidates in all, counting those of earlier runs.
        minutes: end this call after that time.
        until: end when one candidate reaches all these values of metrics.
        patience: end after this number of trials in which the front's hypervolume did not grow.
        population: a generation of nsga2 and nsga3; random candidates before tpe and gp begin.
        controls: whether random, static and uniform networks are searched too, to compare with.
        seed: draws the candidates, and the supernet's weights and batches.
        workers: processes that evaluate, if more than 1. Each gets a copy of `evaluator` by pickle:
            its class must be one that can be imported, and a script needs `if __name__ == "__main__":`.
        ray: the Ray cluster whose actors are the workers, one a processor if `workers` is 1: "local" starts
            one on this machine, "auto" is the one that it is part of; or host:port.
        storage: an Optuna storage, or an SQLAlchemy URL such as `sqlite:///study.db` that the Optuna
            dashboard can open, for the trials; None for memory, or for the folder of the study.
        name: the study's name; the space's if None.
        folder: of a study with a supernet; `studies/` and its name if None.
        progress: told of every step.

    Returns:
        The Pareto front of all feasible candidates, cheapest first; empty if there are none. Without an
        evaluator it is a `dynnas.study.front.StudyFront`.

    Raises:
        StudyError: an argument is not allowed, storage or folder hold another study of this name, another
            process searches it, or evaluations keep failing.
        DataError, TrainingError, TargetError: without an evaluator, as the steps say.

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
    space = StudySpace.around(space)
    settings = _search_settings(
        space.settings.search,
        trials=trials,
        minutes=minutes,
        target=until,
        patience=patience,
        population=population,
        controls=controls,
        seed=seed,
        workers=workers,
        ray=ray,
        constraints=limits,
        sampler=sampler if isinstance(sampler, str) else None,
    )
    known = KnownBefore.of(space, starts, earlier, sampler or settings.sampler)
    if evaluator is not None:
        alone = {"data": data, "task": task, "target": target, "devices": devices, "train": train}
        _refuse(**alone, measurements=measurements or None)
        return _by_evaluator(space, evaluator, objectives, settings, known, sampler, storage, name, progress)
    data = _data_of(data, task, space, progress)
    return _search_supernet(
        _with_settings(space, settings, data, target, devices, train, seed, objectives, measurements),
        folder=Path("studies", name or space.name) if folder is None else Path(folder),
        storage=storage,
        progress=progress,
        data=data,
        sampler=_object(sampler),
        known=known,
        measurements=tuple(measurements),
    )


def _object(sampler: str | BaseSampler | None) -> BaseSampler | None:
    """Return a sampler that is an object; settings keep the name of another."""
    return None if isinstance(sampler, str) else sampler


def _by_evaluator(
    space: StudySpace,
    evaluator: AnyEvaluator,
    objectives: Sequence[str] | Mapping[str, str] | None,
    settings: SearchSettings,
    known: KnownBefore,
    sampler: str | BaseSampler | None,
    storage: str | BaseStorage | None,
    name: str | None,
    progress: Progress | None,
) -> Front:
    goal = Goal.of(objectives or settings.objectives, settings.constraints)
    known = known.with_settings(space, settings, _object(sampler))
    return search_with(
        space,
        evaluator,
        goal,
        settings,
        sampler=_object(sampler),
        starts=known.starts,
        earlier=known.earlier,
        storage=storage,
        name=name,
        progress=progress,
    )


def _refuse(**given: Any) -> None:
    """Refuse the arguments that a search with an evaluator does not use."""
    if names := [name for name, value in given.items() if value is not None]:
        raise StudyError(
            f"search: {', '.join(names)} belong to a search with a supernet; leave them out, or the evaluator"
        )


def _data_of(data: Any, task: Task | None, space: StudySpace, progress: Progress | None) -> Any:
    """Return a source as it is, and splits from a program as a data set."""
    from dynnas.data.dataset import Dataset
    from dynnas.data.given import dataset_of

    if data is None or isinstance(data, str | Path | Dataset):
        if task is not None:
            raise StudyError(
                "search: a task belongs to splits given from Python; a data set has its own, and a space "
                "file names it by data.task"
            )
        return data
    settings = space.settings.data
    augment = "none" if settings.augment == "auto" else settings.augment
    return dataset_of(
        data,
        task,
        augment=augment,
        search_images=settings.search_images,
        seed=settings.seed,
        progress=progress,
    )


def _search_settings(settings: SearchSettings, **given: Any) -> SearchSettings:
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _with_settings(
    space: StudySpace,
    search: SearchSettings,
    data: Any,
    target: TargetSettings | None,
    devices: Mapping[str, TargetSettings] | None,
    train: TrainSettings | None,
    seed: int | None,
    objectives: Sequence[str] | Mapping[str, str] | None,
    measurements: Sequence[Measurement],
) -> StudySpace:
    """Return `space` with the settings of a study in place of its own."""
    if isinstance(objectives, Mapping):
        raise StudyError(
            "search: objectives with directions belong to an evaluator; a supernet's are names of metrics, "
            "and a measurement of your own says which way is better"
        )
    settings = space.settings
    source = str(data) if isinstance(data, str | Path) else None
    train = train or settings.train
    changed = replace(
        settings,
        search=search if objectives is None else replace(search, objectives=tuple(objectives)),
        target=target or settings.target,
        devices=settings.devices if devices is None else dict(devices),
        train=train if seed is None else replace(train, seed=seed),
        data=settings.data if source is None else replace(settings.data, source=source),
    )
    others = tuple(gene for gene in space.genes if not gene.name.startswith(OF_TARGET))
    return replace(space, genes=others, settings=changed)


def _search_supernet(space: StudySpace, data: Any, **arguments: Any) -> Front:
    from dynnas.study.front import StudyFront
    from dynnas.workflows.run import run_study

    study = run_study(space, dataset=None if isinstance(data, str | Path) else data, **arguments)
    return StudyFront(study.front.members, study.front.objectives, study)
