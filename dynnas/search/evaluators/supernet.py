"""The evaluator of a study: networks extracted from a trained supernet, scored as they would ship."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.candidates.candidate import Candidate, Extractor
from dynnas.candidates.statistics import Statistics
from dynnas.data.dataset import Dataset
from dynnas.documents import provenance_digest
from dynnas.latency.anchors import build_anchors
from dynnas.latency.dependent import ways_of
from dynnas.latency.latency import AnchorReference, Latency
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.predictor import LatencyPredictor
from dynnas.latency.remote.timer import resolve_target
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.cost import Cost, cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.search.evaluator import Steps, done_here
from dynnas.search.workers.pool import Answer, Job
from dynnas.space.architecture import Architecture
from dynnas.space.config.network import NetworkConfig
from dynnas.space.space import Space


def open_meter(reference: Path, space: Space, dataset: Dataset) -> LatencyMeter:
    """The latency meter of a study of `space`, whose scale is kept in the file `reference`.

    Its target is the space's, with the runtime that a remote device has for `auto`.

    Raises:
        StudyError: the scale was made in another environment.
        TargetError: the target cannot be used on this machine.
    """
    target = resolve_target(space.settings.target)
    known = AnchorReference.load(reference, target) if reference.exists() else None
    anchors = build_anchors(space, target, dataset.channels, dataset.classes)
    meter = LatencyMeter(target, anchors, known)
    if known is None:
        meter.reference.save(reference)
    return meter


@dataclass(frozen=True)
class SupernetEvaluator:
    """Scores architectures by inherited weights on the search split, and by the clock.

    The stages are size, latency, accuracy; a network with exits or gates is calibrated before it is timed,
    for what its images run depends on its statistics. With a `predictor` of latencies they are size,
    prediction, accuracy, latency, so that what is hopeless need not be timed; where images leave must be
    known for a prediction, so that a network with exits has its accuracy first.
    """

    extractor: Extractor
    meter: LatencyMeter
    predictor: LatencyPredictor | None = None

    @cached_property
    def provenance(self) -> str:
        """Everything but the architecture that the metrics depend on."""
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
        )

    def cheap(self, architecture: Architecture) -> Mapping[str, float]:
        """Size, which needs no network."""
        size = cost(self.extractor.supernet.config(architecture))
        return {"macs": size.macs, "params": size.params}

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        """Size; latency; accuracy and, for a network with exits, the shares that leave at each."""
        return done_here(self.steps(architecture), self.hand)

    @cached_property
    def hand(self) -> Scorer:
        """What calibrates and scores networks."""
        return Scorer(self.extractor)

    def steps(self, architecture: Architecture) -> Steps:
        """The stages, for which a crew calibrates and scores while the driver has the clock."""
        candidate = self.extractor.candidate(architecture)
        config = candidate.config
        size = cost(config)
        yield {"macs": size.macs, "params": size.params}

        if self.predictor is None:
            if config.branches and candidate.statistics is None:
                candidate.adopt(_result((yield Job(CALIBRATE, architecture))))
            yield self.latency(candidate)
            scores = yield from self._scores(candidate)
            yield {**scores.accuracy, **_exit_metrics(config, scores.shares, size), **scores.gates}
            return

        scale = self.meter.reference.anchor_ms
        by_exit = [scale * ratio for ratio in self.predictor.predict(config)]
        if not config.exits:
            yield {"predicted_ms": by_exit[0]}
        scores = yield from self._scores(candidate)
        found = {**scores.accuracy, **_exit_metrics(config, scores.shares, size)}
        if config.exits:
            found["predicted_ms"] = _expected_ms(scores, by_exit)
        yield found
        yield self.latency(candidate)

    def _scores(self, candidate: Candidate) -> Generator[Job, Answer | None, Scores]:
        """Have a candidate scored, and calibrated if that was not done."""
        job = Job(SCORE, candidate.architecture, {"statistics": candidate.statistics})
        scores: Scores = _result((yield job))
        candidate.adopt(scores.statistics)
        return scores

    def latency(self, candidate: Candidate) -> Mapping[str, float]:
        """The metrics of a candidate that only the clock can tell."""
        latency = self.meter.measure(candidate.subject)
        return {"latency_ms": latency.latency_ms, **spread_over_images(latency)}


@dataclass(frozen=True)
class HeldOutEvaluator:
    """Scores networks on the test split: for the members of a finished front and for nothing else."""

    extractor: Extractor

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        """The accuracy to report."""
        network = self.extractor.candidate(architecture).calibrated
        return {"test_accuracy": accuracy(network, self.extractor.dataset, "test").top1}


CALIBRATE, SCORE = "calibrate", "score"


@dataclass(frozen=True)
class Scores:
    """What a network does on the search split.

    Attributes:
        accuracy: the metric.
        shares: of the images that leave at each exit and at the head.
        timed: the same of the images that are timed one by one; empty where that makes no difference.
        statistics: of its batch norms.
        gates: metrics of a gated network.
    """

    accuracy: Mapping[str, float]
    shares: Sequence[float]
    timed: Sequence[float]
    statistics: Statistics
    gates: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scorer:
    """Calibrates and scores networks of a supernet: needs no clock, and may be anywhere."""

    extractor: Extractor

    def work(self, job: Job) -> Statistics | Scores:
        """The batch-norm statistics of a network, or its scores."""
        candidate = self.extractor.candidate(job.architecture)
        if (known := job.arguments.get("statistics")) is not None:
            candidate.adopt(known)
        network, statistics = candidate.calibrated, candidate.statistics
        assert statistics is not None
        if job.name == CALIBRATE:
            return statistics
        dataset, target = candidate.dataset, candidate.target
        score = accuracy(network, dataset, "search")
        timed: Sequence[float] = ()
        if network.config.exits and target.batch == 1:  # a batch runs through all of the network
            images = dataset.search.images[: target.images]
            timed = ways_of(network, prepare_images(network, dataset, images)).shares
        return Scores(
            {"accuracy": score.top1},
            score.exit_shares,
            timed,
            statistics,
            _gate_metrics(score.gates) if score.gates else {},
        )


def _result(reply: Answer | None) -> Any:
    assert reply is not None
    return reply.take()


def _expected_ms(scores: Scores, by_exit: Sequence[float]) -> float:
    """The mean over the images that would be timed."""
    if not scores.timed:
        return by_exit[-1]
    return sum(share * ms for share, ms in zip(scores.timed, by_exit, strict=True))


def _exit_metrics(config: NetworkConfig, shares: Sequence[float], size: Cost) -> dict[str, float]:
    """Where images leave and what they cost in the mean; nothing for a network without exits."""
    if not config.exits:
        return {}
    names = (*(place.name for place in config.exits), "head")
    leaving = {f"exit_share.{name}": share for name, share in zip(names, shares, strict=True)}
    return {"expected_macs": size.expected_macs(shares), **leaving}


def _gate_metrics(use: GateUse) -> dict[str, float]:
    """What images cost, exits included, by the list of all of them; and how often a gate takes what."""
    macs = np.array(use.image_macs)
    shares = {
        f"gate_share.{slot}.{name}": share
        for slot, alternatives in use.shares.items()
        for name, share in alternatives.items()
    }
    return {
        "expected_macs": float(macs.mean()),
        "p95_macs": float(np.percentile(macs, 95)),
        "worst_macs": float(macs.max()),
        "policies": float(use.policies),
        **shares,
    }


def spread_over_images(latency: Latency) -> dict[str, float]:
    """The latency's distribution over images, as metrics."""
    return {
        "mean_ms": latency.mean_ms,
        "median_ms": latency.median_ms,
        "p95_ms": latency.p95_ms,
        "worst_ms": latency.worst_ms,
    }
