"""The evaluator of a study: measurements of candidates extracted from a trained supernet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dynnas.candidates.candidate import Candidate, Extractor
from dynnas.candidates.statistics import Statistics
from dynnas.data.dataset import Dataset
from dynnas.documents import provenance_digest
from dynnas.errors import StudyError, TargetError
from dynnas.language.study_space import StudySpace
from dynnas.latency.anchors import build_anchors
from dynnas.latency.latency import AnchorReference
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.predictor import LatencyPredictor
from dynnas.latency.remote.timer import resolve_target
from dynnas.metrics.artifact import artifact_accuracy
from dynnas.metrics.choose import measurements_for
from dynnas.metrics.latency import DeviceLatency, Latency, Prediction
from dynnas.metrics.measurement import Measurement
from dynnas.metrics.score import Score
from dynnas.metrics.size import Size
from dynnas.search.evaluator import Steps, run_here
from dynnas.search.workers.pool import Job, JobResult
from dynnas.settings.settings import TargetSettings
from dynnas.space.architecture import Architecture


def open_meter(
    reference: Path, space: StudySpace, dataset: Dataset, target: TargetSettings | None = None
) -> LatencyMeter:
    """Return the latency meter of a study of `space`, whose scale is kept in the file `reference`.

    Its target is the space's if none is given, with the runtime that a remote device has for `auto`.

    Raises:
        StudyError: the scale was made in another environment.
        TargetError: the target cannot be used on this machine.
    """
    target = resolve_target(target or space.settings.target)
    known = AnchorReference.load(reference, target) if reference.exists() else None
    space = space.of_data(dataset.shape, dataset.task)  # whose head may be the task's
    anchors = build_anchors(space, target, dataset.channels, dataset.task.outputs, dataset.size)
    meter = LatencyMeter(target, anchors, known)
    if known is None:
        meter.reference.save(reference)
    return meter


def open_devices(
    reference: Callable[[str], Path], space: StudySpace, dataset: Dataset
) -> tuple[DeviceLatency, ...]:
    """Return the latencies on the further devices of a study; `reference` names the file of each one's scale.

    Raises:
        StudyError, TargetError: as `open_meter`; the message names the device.
    """
    found = []
    for name, target in space.settings.devices.items():
        try:
            found.append(DeviceLatency.on(name, open_meter(reference(name), space, dataset, target)))
        except (StudyError, TargetError) as error:
            raise type(error)(f"devices.{name}: {error}") from error
    return tuple(found)


def extra_measurements(
    metrics: Iterable[str], given: Sequence[Measurement], meter: LatencyMeter
) -> tuple[Measurement, ...]:
    """Return the measurements that give those `metrics` that are not always measured, nor by those `given`.

    Raises:
        StudyError: no measurement gives one of them.
    """
    return measurements_for(metrics, (Size(), Score(), Latency(meter), *given), meter)


@dataclass(frozen=True)
class SupernetEvaluator:
    """Takes measurements of architectures with inherited weights, the cheapest first.

    Size, latency and the score on the search split are always measured. With a `predictor` a predicted
    latency comes before the score and the measured one after it, so that what is hopeless need not be timed.

    Attributes:
        extractor: makes the candidates.
        meter: measures latencies.
        predictor: of latencies, if there is one.
        extra: further measurements.
    """

    extractor: Extractor
    meter: LatencyMeter
    predictor: LatencyPredictor | None = None
    extra: tuple[Measurement, ...] = ()

    @cached_property
    def measurements(self) -> tuple[Measurement, ...]:
        """Return all measurements in their order."""
        usual: list[Measurement] = [
            Size(),
            Score(),
            Latency(self.meter, predicted=self.predictor is not None),
        ]
        if self.predictor is not None:
            usual.append(Prediction(self.predictor, self.meter.reference.anchor_ms))
        return tuple(sorted((*usual, *self.extra), key=lambda measurement: measurement.order))

    @cached_property
    def provenance(self) -> str:
        """Return everything but the architecture that the metrics depend on."""
        target = self.extractor.target
        return provenance_digest(
            {
                "weights": self.extractor.weights_digest,
                "data": self.extractor.dataset.digest,
                "environment": self.meter.reference.environment,
                "anchors": f"{self.meter.reference.anchor_ms:.9g} ms",
                "timing": f"{target.images} images, {target.seconds} s",
                "calibration": self.extractor.calibration,
            }
            | ({"predictor": self.predictor.digest} if self.predictor else {})
            | {_names(each): each.provenance for each in self.extra}
        )

    @property
    def cheap_metrics(self) -> tuple[str, ...] | None:
        """Return the names of the cheap metrics of one's own class, which are counted in a run; else None."""
        own = self.extractor.supernet.space.model is not None
        return tuple(metric.name for metric in Size.gives) if own else None

    def cheap(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the metrics that need no weights: see `dynnas.samplers.model.cheap_metrics.Cheap`."""
        candidate = self.extractor.candidate(architecture)
        found: dict[str, float] = {}
        for measurement in self.measurements:
            if measurement.needs == "config":
                found.update(measurement.measure(candidate))
        return found

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        """Return the metrics of every measurement."""
        return run_here(self.steps(architecture), self.worker)

    @cached_property
    def worker(self) -> MeasuringWorker:
        """Return the object that calibrates networks and takes the measurements that any process can take."""
        anywhere = {
            str(place): measurement
            for place, measurement in enumerate(self.measurements)
            if measurement.where == "worker"
        }
        return MeasuringWorker(self.extractor, anywhere)

    def steps(self, architecture: Architecture) -> Steps:
        """Yield the same, with jobs that others can do while the driver has the clock."""
        candidate = self.extractor.candidate(architecture)
        for place, measurement in enumerate(self.measurements):
            if measurement.where == "worker":
                job = Job(str(place), architecture, {"statistics": candidate.statistics})
                found, statistics = _result((yield job))
                if statistics is not None:
                    candidate.adopt(statistics)
                yield found
                continue
            if measurement.needs_statistics(candidate) and candidate.statistics is None:
                candidate.adopt(_result((yield Job(CALIBRATE, architecture)))[1])
            yield measurement.measure(candidate)

    def latency(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the metrics of a candidate that need a clock, those of every device."""
        found = dict(Latency(self.meter).measure(candidate))
        for device in self.devices:
            found |= device.measure(candidate)
        return found

    @property
    def devices(self) -> tuple[DeviceLatency, ...]:
        """The latencies on further devices."""
        return tuple(each for each in self.extra if isinstance(each, DeviceLatency))


@dataclass(frozen=True)
class HeldOutEvaluator:
    """Scores networks on the test split: only for the members of a finished front."""

    extractor: Extractor

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        """Return the scores of the task to report, each with `test_` before its name."""
        scores = artifact_accuracy(self.extractor.candidate(architecture), "test").scores
        return {f"test_{name}": value for name, value in scores.items()}


def _names(measurement: Measurement) -> str:
    """Return the class of a measurement and its metrics, for one class may give those of several devices."""
    return " ".join((type(measurement).__qualname__, *(metric.name for metric in measurement.gives)))


CALIBRATE = "calibrate"


@dataclass(frozen=True)
class MeasuringWorker:
    """Calibrates candidates and takes measurements that need no clock, in any process.

    Attributes:
        extractor: makes the candidates, in that process.
        measurements: by the name of their job.
    """

    extractor: Extractor
    measurements: Mapping[str, Measurement]

    def run(self, job: Job) -> tuple[Mapping[str, float], Statistics | None]:
        """Return the metrics of a candidate, none for `CALIBRATE`, and its statistics if they are known."""
        candidate = self.extractor.candidate(job.architecture)
        if (known := job.arguments.get("statistics")) is not None:
            candidate.adopt(known)
        if job.name == CALIBRATE:
            assert candidate.calibrated
            return {}, candidate.statistics
        return self.measurements[job.name].measure(candidate), candidate.statistics


def _result(reply: JobResult | None) -> Any:
    assert reply is not None
    return reply.get()
