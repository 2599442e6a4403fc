"""A whole study, from a space file to a finished front; after an interruption, the same call continues it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage

from dynnas.candidates.candidate import Extractor
from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.sources.find import SOURCES
from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.language.study_space import StudySpace
from dynnas.latency.predictor.predictor import LatencyPredictor, load_predictor, predictor_file
from dynnas.metrics.latency import DeviceLatency
from dynnas.metrics.measurement import Measurement
from dynnas.metrics.score import check_objectives
from dynnas.pareto.front import Front
from dynnas.pareto.objectives import Goal
from dynnas.progress import Progress
from dynnas.runtimes.compile import check_quantizes, resolve_runtime
from dynnas.runtimes.runtime import get_runtime
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluators.supernet import SupernetEvaluator, extra_measurements, open_devices, open_meter
from dynnas.search.loop import SearchLoop
from dynnas.search.prefilter import DEVIATIONS, Prefilter
from dynnas.search.stopping import StopConditions
from dynnas.search.storage.locks import study_lock
from dynnas.search.storage.storage import SearchStorage, search_storage
from dynnas.search.storage.studies import open_trials
from dynnas.search.workers.opening import open_cluster, open_pool
from dynnas.search.workers.pool import WorkerPool
from dynnas.settings.settings import SearchSettings, Settings
from dynnas.space.gene import QUANTIZE
from dynnas.space.space import Space
from dynnas.study.controls import Comparison, Controls, evaluate_controls
from dynnas.study.folder import StudyFolder
from dynnas.study.given import OBJECTS, Given, KnownBefore, goal_of
from dynnas.study.phases import phases_of_study
from dynnas.study.study import Study
from dynnas.supernet.checks import check_networks
from dynnas.supernet.make import make_supernet
from dynnas.training.device import usable_device
from dynnas.training.start import train_supernet
from dynnas.workflows.finish import Finisher
from dynnas.workflows.start import (
    begin_study,
    check_network_fits,
    delete_study,
    study_sampler,
    tell_contradictions,
)
from dynnas.workflows.trial import try_functions

if TYPE_CHECKING:
    from dynnas.search.workers.cluster import Cluster


def run_study(
    space: Space,
    *,
    folder: str | Path,
    storage: str | BaseStorage | None = None,
    fresh: bool = False,
    progress: Progress | None = None,
    dataset: Dataset | None = None,
    sampler: BaseSampler | None = None,
    known: KnownBefore | None = None,
    measurements: tuple[Measurement, ...] = (),
) -> Study:
    """Train a supernet over `space`, search it, compare the result with its controls, and finish the front.

    Called again with the same arguments it goes on wherever it was interrupted; with more trials or other
    limits in its settings it extends the study.

    Args:
        space: of a file with a network, as `load_space` reads it, whose `settings` say everything else; or
            of `Space.of`, with default settings or those of `StudySpace.around`.
        folder: of the study; is made.
        storage: SQLAlchemy URL for the trials, if they are not to be kept in the folder.
        fresh: first delete what `StudyFolder(folder).owned()` lists, and the trials in `storage`.
        progress: told of everything.
        dataset: the data, if not those that the settings name.
        sampler: proposes candidates, if not that of the settings.
        known: what the search begins with, beside what the settings name.
        measurements: further ones to take of every candidate.

    Returns:
        The finished study.

    Raises:
        StudyError: the folder holds a study made with something else, or another process drives it.
        DataError, TrainingError, TargetError: as the steps say.
    """
    if space.network is None and space.model is None:
        raise StudyError(
            f"space {space.name!r}: a study needs a space file with a network, or Space.of a class; "
            "search any other space with dynnas.search(space, evaluator)"
        )
    space = StudySpace.around(space)
    given = Given(
        space=space if space.source is None else None,
        dataset=dataset,
        storage=storage if isinstance(storage, BaseStorage) else None,
        measurements=measurements,
    )
    progress = progress or Progress()
    place = StudyFolder(Path(folder))
    place.path.mkdir(parents=True, exist_ok=True)
    with study_lock(place.lock, f"study {place.path}"):
        device = usable_device(space.settings.target.host_device)
        dataset = (dataset or load_data(space.settings.data, progress)).to(device)
        tell_contradictions(space, dataset, progress)
        check_network_fits(space, dataset.task)
        space = space.of_data(dataset.shape, dataset.task)
        progress.plan(phases_of_study(space, dataset))
        _check_goal(space.settings.search, dataset, measurements)
        known = (known or KnownBefore()).with_settings(space, space.settings.search, sampler, place)
        if fresh:
            delete_study(place, storage)
        record = begin_study(
            space,
            place,
            storage,
            data=dataset.digest,
            settings=_located(space.settings, given),
            task=dataset.task,
            images=dataset.split_sizes,
        )
        # Before the training: a second process should not find out after it.
        with (
            search_storage(storage or place.url(record), record.name, progress, locked=not storage) as trials,
            closing(Cache(place.cache)) as cache,
        ):
            with _cluster(space.settings) as cluster:
                evaluator = _trained_evaluator(space, dataset, place, cache, progress, cluster, measurements)
                run = _Run(space, place, evaluator, cache, progress, known, sampler)
                with run.pool(cluster) as pool:
                    loop = run.search(trials, record.name, pool)
                    controls = run.compare(loop)
            run.finish(loop, controls)  # when no worker disturbs the clock
    return Study(place, given)


def _check_goal(search: SearchSettings, dataset: Dataset, measurements: tuple[Measurement, ...]) -> None:
    """Check before the training that the objectives and limits can be measured.

    Raises:
        StudyError: an objective, a limit or a condition to stop is no metric of this task.
    """
    check_objectives((*search.objectives, *search.constraints), dataset.task)
    StopConditions.of(search).check(goal_of(search, dataset.task.metrics, measurements))


def _located(settings: Settings, given: Given) -> Settings:
    """Return settings that mean the same wherever they are read.

    Files lie at absolute paths, and data have such a path or a name, or are objects.
    """
    if settings.train.init is not None:
        init = str(Path(settings.train.init).expanduser().resolve())
        settings = replace(settings, train=replace(settings.train, init=init))
    if given.dataset is not None:
        return replace(settings, data=replace(settings.data, source=OBJECTS))
    path = Path(settings.data.source).expanduser()
    if settings.data.source in SOURCES or not path.exists():
        return settings
    return replace(settings, data=replace(settings.data, source=str(path.resolve())))


def _cluster(settings: Settings) -> AbstractContextManager[Cluster | None]:
    return open_cluster(settings.search.ray, max(settings.search.workers, settings.train.processes))


def _trained_evaluator(
    space: StudySpace,
    dataset: Dataset,
    place: StudyFolder,
    cache: Cache,
    progress: Progress,
    cluster: Cluster | None,
    measurements: tuple[Measurement, ...],
) -> SupernetEvaluator:
    train, target = space.settings.train, space.settings.target
    if space.model is not None:
        check_networks(space, dataset.shape, dataset.task.outputs)
    # Before the training: a target that cannot be used should not be found out after it.
    meter = open_meter(place.anchors, space, dataset)
    wanted = goal_of(space.settings.search, dataset.task.metrics, measurements).metrics
    wanted = tuple(name for name in wanted if all(name != metric.name for metric in dataset.task.metrics))
    given = (*measurements, *open_devices(place.anchors_on, space, dataset))
    if any(gene.name == QUANTIZE for gene in space.genes):
        elsewhere = (each.meter for each in given if isinstance(each, DeviceLatency))
        for target_of in (meter, *elsewhere):
            check_quantizes(get_runtime(resolve_runtime(target_of.target)), target_of.target)
    extra = (*given, *extra_measurements(wanted, given, meter))
    for measurement in extra:
        measurement.check(meter.target)
    supernet = make_supernet(
        space, dataset.channels, dataset.task.outputs, experts=train.experts, seed=train.seed
    )
    try_functions(supernet, dataset, train, target.host_device)
    train_supernet(
        supernet,
        dataset,
        train,
        place.supernet,
        progress=progress,
        device=target.host_device,
        launch=partial(cluster.train, progress=progress) if cluster else None,
    )
    predictor = _predictor(space, dataset, place, meter.reference.environment, progress)
    extractor = Extractor(supernet, dataset, train, meter.target, cache)
    return SupernetEvaluator(extractor, meter, predictor, extra)


def _predictor(
    space: Space, dataset: Dataset, place: StudyFolder, environment: str, progress: Progress
) -> LatencyPredictor | None:
    """Return the study's own predictor, or that of the space.

    The latter becomes the study's; it is None before `dynnas calibrate`.
    """
    if own := load_predictor(place.predictor, environment):
        return own
    if space.network is None:
        return None
    path = predictor_file(space, dataset.channels, dataset.task.outputs, environment)
    found = load_predictor(path, environment)
    if found:
        atomic_write(place.predictor, found.to_json())
        progress.message(
            f"latency predictor loaded (error {found.error:.1%}); "
            "clearly dominated candidates are not measured"
        )
    return found


@dataclass(frozen=True)
class _Run:
    """The steps after the training; each saves its results in the folder, and finds them there again."""

    space: StudySpace
    place: StudyFolder
    evaluator: SupernetEvaluator
    cache: Cache
    progress: Progress
    known: KnownBefore
    sampler: BaseSampler | None = None

    @cached_property
    def cached(self) -> CachedEvaluator:
        """The evaluator of trials and controls."""
        return CachedEvaluator(self.evaluator, self.cache, self.evaluator.provenance)

    @cached_property
    def goal(self) -> Goal:
        """Objectives and limits."""
        task = self.evaluator.extractor.dataset.task
        return goal_of(self.space.settings.search, task.metrics, self.evaluator.extra)

    @contextmanager
    def pool(self, cluster: Cluster | None) -> Iterator[WorkerPool | None]:
        """Open the workers, if there are any."""
        workers, target = self.space.settings.search.workers, self.space.settings.target
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        if not cluster and workers > 1 and target.device == "cpu" and workers + target.threads > cores:
            self.progress.message(
                f"{workers} workers and the clock share {cores} cores: its latencies are less exact; "
                "those of the finished front are timed alone"
            )
        with open_pool(
            self.cached, self.goal, workers=workers, cluster=cluster, progress=self.progress
        ) as pool:
            yield pool

    def search(self, trials: SearchStorage, name: str, pool: WorkerPool | None) -> SearchLoop:
        """Run the search, and return its trials."""
        settings, goal = self.space.settings.search, self.goal
        study = open_trials(
            trials.storage,
            name,
            self.space,
            goal.objectives,
            study_sampler(self.space, self.cached, goal, self.known, self.sampler),
            {
                **self.place.read_record().facts,
                "environment": self.evaluator.meter.reference.environment,
            },
        )
        predictor = self.evaluator.predictor
        screen = Prefilter(goal, DEVIATIONS * predictor.error) if predictor else None
        loop = SearchLoop(study, self.space, self.cached, goal, screen, pool, trials.retry)
        loop.run(settings.trials, self.progress, stopping=StopConditions.of(settings))
        return loop

    def compare(self, loop: SearchLoop) -> Controls | None:
        """Evaluate the controls, if they are asked for; what the search has evaluated costs nothing."""
        settings = self.space.settings.search
        if not settings.controls:
            return None
        controls = evaluate_controls(
            self.space, self.cached, loop.goal, settings, self.progress, loop.pool, loop.candidates()
        )
        if not self.place.controls.exists():
            self._keep(controls, loop)
        return controls

    def _keep(self, controls: Controls, loop: SearchLoop, finished: Front | None = None) -> None:
        comparison = Comparison.of(loop.candidates(), controls, loop.goal.objectives, finished)
        atomic_write(self.place.controls, controls.to_json(comparison))

    def _front_before(self) -> Front | None:
        """Return the finished front of an earlier run; a damaged one is made again from the trials."""
        if not self.place.front.exists():
            return None
        try:
            return Front.load(self.place.front)
        except StudyError as error:
            self.progress.message(f"{error}; it is written again")
            return None

    def finish(self, loop: SearchLoop, controls: Controls | None) -> None:
        """Time the members of the front together and test them, unless that was done for exactly these.

        The fronts of the controls are tested, too.
        """
        finisher = Finisher(self.evaluator, self.cache, self.progress)
        front, finished = loop.front(), self._front_before()
        if finished is None or [member.key for member in finished] != [member.key for member in front]:
            finished = finisher.finish(front)
            atomic_write(self.place.front, finished.to_json())
        if controls is not None:
            self._keep(finisher.finish_controls(controls, finished), loop, finished)
