"""The latency of a network on its target and on further devices: measured, and predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from dynnas.candidates.candidate import Candidate
from dynnas.latency.dependent import ways_of
from dynnas.latency.latency import Latency as MeasuredLatency
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.predictor import LatencyPredictor
from dynnas.metric import Metric
from dynnas.metrics.measurement import Measurement
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.metrics import METRICS, device_metrics, find_metric, register_measurement


@register_measurement("latency")
@dataclass(frozen=True)
class Latency(Measurement):
    """The time of a call on the target, over real images if it depends on them.

    Attributes:
        meter: times networks on the study's scale.
        predicted: whether a prediction and the score come first, so that what these show to be hopeless is
            not timed; else it comes before the score, for it takes less time.
    """

    meter: LatencyMeter
    predicted: bool = False

    gives = tuple(METRICS[name] for name in ("latency_ms", "mean_ms", "median_ms", "p95_ms", "worst_ms"))
    needs = "artifact"
    where = "device"

    @classmethod
    def create(cls, meter: LatencyMeter) -> Self:
        """Return the measurement by `meter`."""
        return cls(meter)

    @property
    def order(self) -> float:
        """Return the place among measurements.

        It is after the score if there is a prediction, before it otherwise.
        """
        return 4.0 if self.predicted else 2.0

    @property
    def provenance(self) -> str:
        """Return the scale, and how long is measured."""
        target = self.meter.target
        scale = self.meter.reference.anchor_ms
        return f"{scale:.9g} ms, {target.images} images by their paths, {target.seconds} s"

    def needs_statistics(self, candidate: Candidate) -> bool:
        """Return whether the candidate must be calibrated before it is timed."""
        return candidate.timed_calibrated

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the latency by which candidates are ranked, and its distribution over images."""
        latency = self.meter.measure(candidate.workload)
        return {"latency_ms": latency.latency_ms, **spread_over_images(latency)}


@dataclass(frozen=True)
class DeviceLatency(Measurement):
    """The time of a call on a further device of a study, after the score.

    Attributes:
        device: its name in the study.
        meter: times networks there, on that device's own scale.
        gives: `latency_ms@device` and `p95_ms@device`.
    """

    device: str
    meter: LatencyMeter
    gives: tuple[Metric, ...]

    needs = "artifact"
    where = "device"
    cost: ClassVar[float | None] = 4.1

    @staticmethod
    def on(device: str, meter: LatencyMeter) -> DeviceLatency:
        """Return the measurement by `meter`, for the device of that name."""
        known = (find_metric(name) for name in device_metrics([device]))
        return DeviceLatency(device, meter, tuple(metric for metric in known if metric is not None))

    @property
    def provenance(self) -> str:
        """Return the device's environment and scale, and how long is measured."""
        target, scale = self.meter.target, self.meter.reference
        timed = f"{target.images} images by their paths, {target.seconds} s"
        return f"{scale.environment}, {scale.anchor_ms:.9g} ms, {timed}"

    def needs_statistics(self, candidate: Candidate) -> bool:
        """Return whether the candidate must be calibrated before it is timed."""
        return candidate.timed_calibrated

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the latency there, and its 95th percentile over images."""
        return self.measure_jointly([candidate])[0]

    def measure_jointly(self, candidates: Sequence[Candidate]) -> list[dict[str, float]]:
        """Return the same of several candidates that are timed in the same rounds."""
        workloads = [candidate.workload_on(self.meter.target) for candidate in candidates]
        found = self.meter.measure_jointly(workloads) if workloads else []
        return [
            dict(
                zip(
                    (metric.name for metric in self.gives),
                    (latency.latency_ms, latency.p95_ms),
                    strict=True,
                )
            )
            for latency in found
        ]


@dataclass(frozen=True)
class Prediction(Measurement):
    """The latency by a calibrated predictor, as a mean over the images that would be timed.

    Attributes:
        predictor: of multiples of the anchors' time.
        anchor_ms: the anchors' time on the study's scale.
    """

    predictor: LatencyPredictor
    anchor_ms: float

    gives = (METRICS["predicted_ms"],)
    needs = "calibrated"
    cost: ClassVar[float | None] = 2.0

    @property
    def provenance(self) -> str:
        """Return the predictor's digest."""
        return self.predictor.digest

    def needs_statistics(self, candidate: Candidate) -> bool:
        """Return whether the network has exits: only they make the predicted time depend on images."""
        return bool(candidate.config.exits)

    def measure(self, candidate: Candidate) -> Mapping[str, float]:
        """Return the predicted time of an image, weighted by the exits that images leave by."""
        by_exit = [self.anchor_ms * ratio for ratio in self.predictor.predict(candidate.config)]
        if not candidate.config.exits or candidate.target.batch > 1:  # a batch runs through all of it
            return {"predicted_ms": by_exit[-1]}
        dataset = candidate.dataset
        images = dataset.search.images[: candidate.target.images]
        network = candidate.calibrated
        shares = ways_of(network, prepare_images(network, dataset, images)).shares
        return {"predicted_ms": sum(share * ms for share, ms in zip(shares, by_exit, strict=True))}


def spread_over_images(latency: MeasuredLatency) -> dict[str, float]:
    """Return the latency's distribution over images, as metrics."""
    return {
        "mean_ms": latency.mean_ms,
        "median_ms": latency.median_ms,
        "p95_ms": latency.p95_ms,
        "worst_ms": latency.worst_ms,
    }
