"""The command `dynnas measure`: latencies of a study measured again, of its front or all candidates."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from dynnas.candidates.candidate import Extractor
from dynnas.documents import Document
from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.latency.anchors import build_anchors
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.latency import AnchorReference
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.remote.timer import resolve_target
from dynnas.metrics.latency import DeviceLatency
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.noise import is_tested
from dynnas.progress import Progress, Task
from dynnas.samplers.make import make_sampler
from dynnas.samplers.trials import RESERVED, candidates_of, metrics_of
from dynnas.search.cache import Cache, Evaluation
from dynnas.search.evaluators.supernet import SupernetEvaluator, open_devices, open_meter
from dynnas.search.storage.locks import study_lock
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import load_trials, open_trials
from dynnas.settings.settings import TargetSettings
from dynnas.space.architecture import Architecture
from dynnas.study.controls import Comparison, Controls
from dynnas.study.study import Study
from dynnas.workflows.finish import Finisher

MEASURED = "latency_ms"
DOCUMENT = Document("dynnas_remeasuring", 1, "delete it, and the measuring begins again")


def measure_front(study: Study, progress: Progress | None = None) -> Study:
    """Time the front once more, all members in the same rounds, on the study's scale.

    Raises:
        StudyError: another process drives the study, or it was measured in another environment.
    """
    with (
        study_lock(study.folder.lock, f"study {study.folder.path}"),
        closing(Cache(study.folder.cache)) as cache,
    ):
        meter = open_meter(study.folder.anchors, study.space, study.dataset)
        devices = open_devices(study.folder.anchors_on, study.space, study.dataset)
        evaluator = SupernetEvaluator(_extractor(study, meter, cache), meter, extra=devices)
        _finish(study, study.front, evaluator, cache, progress or Progress())
    return Study(study.folder)


def measure_all(study: Study, progress: Progress | None = None) -> Study:
    """Measure every candidate and control again, here, on a new scale, and keep the accuracies.

    The trials go into a study of another name in the same storage, which takes the place of the old one when
    all is measured. Interrupted, the same call goes on.

    Raises:
        StudyError: another process drives the study, or it has no trials.
    """
    progress = progress or Progress()
    with (
        study_lock(study.folder.lock, f"study {study.folder.path}"),
        closing(Cache(study.folder.cache)) as cache,
    ):
        old = load_trials(study.storage, study.record.name)
        if old is None or not old.trials:
            raise StudyError(f"{study.name}: there are no trials to measure; search first")
        draft = _draft(study)
        meter = _meter(study, study.settings.target, draft.reference)
        devices = tuple(
            DeviceLatency.on(name, _meter(study, target, draft.devices[name]))
            for name, target in study.settings.devices.items()
        )
        evaluator = SupernetEvaluator(_extractor(study, meter, cache), meter, extra=devices)
        again = _Remeasuring(study, evaluator, cache)
        sampler = make_sampler("random", study.space, population=2, seed=0)
        new = open_trials(
            open_storage(study.storage),
            draft.name,
            study.space,
            study.goal.objectives,
            sampler,
            {**study.record.facts, "environment": draft.reference.environment},
        )
        controls = study.controls.groups
        total = len(old.trials) + sum(map(len, controls.values()))
        with progress.task("measuring", total=total, done=len(new.trials)) as task:
            for trial in old.trials[len(new.trials) :]:
                new.add_trial(again.trial(trial))
                task.advance(note=trial.user_attrs.get("key", ""))
            groups = {name: again.candidates(group, task) for name, group in controls.items()}
        candidates = candidates_of(new, study.space, study.goal)
        if groups:
            compared = Controls(**groups)
            told = Comparison.of(candidates, compared, study.goal.objectives, study.front)
            atomic_write(study.folder.controls, compared.to_json(told))
        draft.reference.save(study.folder.anchors)
        for name, reference in draft.devices.items():
            reference.save(study.folder.anchors_on(name))
        atomic_write(study.folder.record, replace(study.record, name=draft.name).to_json())
        study.folder.remeasuring.unlink()
        if study.shelf:
            study.folder.shelf.unlink()
            progress.message("the shelf was timed on the scale before: run dynnas shelf again")
        _finish(study, Front.of(candidates, study.goal.objectives), again.evaluator, cache, progress)
    return Study(study.folder)


@dataclass(frozen=True)
class _Draft:
    """The state of an unfinished `measure_all`: the name of the new trials, and the scale of each device."""

    name: str
    reference: AnchorReference
    devices: Mapping[str, AnchorReference]

    @staticmethod
    def of(document: Mapping[str, Any]) -> _Draft:
        """Read what `asdict` made."""
        devices = {name: AnchorReference(**each) for name, each in document["devices"].items()}
        return _Draft(document["name"], AnchorReference(**document["reference"]), devices)


def _meter(study: Study, target: TargetSettings, reference: AnchorReference | None = None) -> LatencyMeter:
    """Return the meter of one of the study's targets, on a new scale if none is given."""
    target, dataset = resolve_target(target), study.dataset
    space = study.space.of_data(dataset.shape, dataset.task)
    anchors = build_anchors(space, target, dataset.channels, dataset.task.outputs, dataset.size)
    return LatencyMeter(target, anchors, reference)


def _draft(study: Study) -> _Draft:
    """Return the draft in the folder, if it was begun in this environment, or a new one."""
    path, settings = study.folder.remeasuring, study.settings
    if path.exists():
        found = DOCUMENT.load(path, _Draft.of)
        begun = {"": found.reference, **found.devices}
        targets = {"": settings.target, **settings.devices}
        here = {
            name: environment_fingerprint(resolve_target(target))["digest"]
            for name, target in targets.items()
        }
        if here == {name: reference.environment for name, reference in begun.items()}:
            return found
    base, _, number = study.record.name.rpartition("-measured-")
    names = {each.study_name for each in optuna.get_all_study_summaries(open_storage(study.storage))}
    count = int(number) + 1 if base else 2
    base = base or study.record.name
    while (name := f"{base}-measured-{count}") in names:
        count += 1
    devices = {device: _meter(study, target).reference for device, target in settings.devices.items()}
    draft = _Draft(name, _meter(study, settings.target).reference, devices)
    atomic_write(path, DOCUMENT.write(asdict(draft)))
    return draft


@dataclass(frozen=True)
class _Remeasuring:
    """Trials and candidates with new latencies in place of the old ones."""

    study: Study
    evaluator: SupernetEvaluator
    cache: Cache

    def trial(self, trial: FrozenTrial) -> FrozenTrial:
        """Return a finished copy of a trial; one that was not measured, or never finished, stays as it is."""
        metrics = metrics_of(trial)
        values = trial.values
        if trial.state == TrialState.COMPLETE and MEASURED in metrics:
            architecture = self.study.space.architecture(trial.params)
            metrics = self._measured(architecture, metrics)
            objectives = self.study.goal.objectives
            values = [
                metrics.get(objective.name, told)
                for objective, told in zip(objectives, trial.values, strict=True)
            ]
        violations = self.study.goal.violations(metrics)
        told_to_dashboard = {"constraints": list(violations.values())} if violations else {}
        facts = {name: value for name, value in trial.user_attrs.items() if name in RESERVED}
        kept = {
            name: value for name, value in trial.system_attrs.items() if not name.startswith("constraints")
        }
        return create_trial(
            state=trial.state if trial.state.is_finished() else TrialState.FAIL,
            values=values,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={**facts, **metrics},
            system_attrs={**kept, **told_to_dashboard},
            constraints=violations,
        )

    def candidates(self, group: tuple[ScoredArchitecture, ...], task: Task) -> tuple[ScoredArchitecture, ...]:
        """Return the candidates of a control."""
        found = []
        for candidate in group:
            # What only a finished front has stays out of the cache, from which trials are read.
            finished = {name: value for name, value in candidate.metrics.items() if is_tested(name)}
            ranked = {name: value for name, value in candidate.metrics.items() if name not in finished}
            measured = self._measured(candidate.architecture, ranked)
            found.append(replace(candidate, metrics={**measured, **finished}))
            task.advance(note=candidate.key)
        return tuple(found)

    def _measured(self, architecture: Architecture, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return `metrics` with new latencies, from the cache where they were measured before."""
        provenance = self.evaluator.provenance
        known = self.cache.read(architecture, provenance)
        latency = known.stages[0] if known.stages else None
        if latency is None or MEASURED not in latency:
            latency = self.evaluator.latency(self.evaluator.extractor.candidate(architecture))
        told = {name: value for name, value in metrics.items() if name != "predicted_ms"}
        new = {**told, **latency}
        self.cache.write(architecture, provenance, Evaluation((new,), complete="accuracy" in new))
        return new


def _extractor(study: Study, meter: LatencyMeter, cache: Cache) -> Extractor:
    return Extractor(study.supernet, study.dataset, study.settings.train, meter.target, cache)


def _finish(
    study: Study, front: Front, evaluator: SupernetEvaluator, cache: Cache, progress: Progress
) -> None:
    finished = Finisher(evaluator, cache, progress).finish(front)
    atomic_write(study.folder.front, finished.to_json())
