"""The evaluator of a study: networks extracted from a trained supernet, scored as they would ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dynnas.data.dataset import Dataset, resize
from dynnas.latency.anchors import build_anchors
from dynnas.latency.dependent import ways_of
from dynnas.latency.latency import AnchorReference, Latency
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.predictor.predictor import LatencyPredictor
from dynnas.latency.remote.timer import resolve_target
from dynnas.latency.rounds import Subject
from dynnas.latency.runner import build_runner
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.cost import Cost, cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.network import Network
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.search.cache import provenance_digest
from dynnas.search.evaluator import Steps, done_here
from dynnas.search.workers.pool import Answer, Job
from dynnas.settings.settings import TargetSettings, TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.space.config.network import NetworkConfig
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet
from dynnas.training.batchnorm.calibrate import calibrate

Statistics = Mapping[str, np.ndarray]
"""Buffers of batch norms, by name."""


def calibrated_network(
    supernet: Supernet,
    architecture: Architecture,
    dataset: Dataset,
    train: TrainSettings,
    open_gates: bool = False,
) -> Network:
    """The network of `architecture` with its own weights and batch-norm statistics, ready for use.

    With `open_gates` it has none of its gates.
    """
    return _calibrate(supernet.extract(architecture, open_gates), dataset, train)


def _calibrate(network: Network, dataset: Dataset, train: TrainSettings) -> Network:
    images = dataset.calibration_images(train.calibration_images, train.seed)
    return calibrate(network, resize(images, network.config.resolution))


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

    supernet: Supernet
    dataset: Dataset
    meter: LatencyMeter
    train: TrainSettings
    target: TargetSettings
    predictor: LatencyPredictor | None = None

    @cached_property
    def provenance(self) -> str:
        """Everything but the architecture that the metrics depend on."""
        return provenance_digest(
            {
                "weights": self.supernet.digest(),
                "data": self.dataset.digest,
                "environment": self.meter.reference.environment,
                "anchors": f"{self.meter.reference.anchor_ms:.9g} ms",
                "timing": f"{self.target.images} images, {self.target.seconds} s",
                "calibration": f"{self.train.calibration_images} images, seed {self.train.seed}",
            }
            | ({"predictor": self.predictor.digest} if self.predictor else {})
        )

    def cheap(self, architecture: Architecture) -> Mapping[str, float]:
        """Size, which needs no network."""
        size = cost(self.supernet.config(architecture))
        return {"macs": size.macs, "params": size.params}

    def stages(self, architecture: Architecture) -> Iterator[Mapping[str, float]]:
        """Size; latency; accuracy and, for a network with exits, the shares that leave at each."""
        return done_here(self.steps(architecture), self.hand)

    @cached_property
    def hand(self) -> Scorer:
        """What calibrates and scores networks."""
        return Scorer(self.supernet, self.dataset, self.train, self.target)

    def steps(self, architecture: Architecture) -> Steps:
        """The stages, for which a crew calibrates and scores while the driver has the clock."""
        config = self.supernet.config(architecture)
        size = cost(config)
        yield {"macs": size.macs, "params": size.params}

        if self.predictor is None:
            network = self.supernet.extract(architecture)
            statistics = None
            if config.branches:
                statistics = _result((yield Job(CALIBRATE, architecture)))
                _restore(network, statistics)
            yield self.latency(network)
            scores = _result((yield Job(SCORE, architecture, {"statistics": statistics})))
            yield {**scores.accuracy, **_exit_metrics(config, scores.shares, size), **scores.gates}
            return

        scale = self.meter.reference.anchor_ms
        by_exit = [scale * ratio for ratio in self.predictor.predict(config)]
        if not config.exits:
            yield {"predicted_ms": by_exit[0]}
        scores = _result((yield Job(SCORE, architecture)))
        found = {**scores.accuracy, **_exit_metrics(config, scores.shares, size)}
        if config.exits:
            found["predicted_ms"] = _expected_ms(scores, by_exit)
        yield found
        network = self.supernet.extract(architecture)
        _restore(network, scores.statistics)
        yield self.latency(network)

    def latency(self, network: Network) -> Mapping[str, float]:
        """The metrics of a network, ready for use, that only the clock can tell."""
        latency = self.meter.measure(self.subject(network))
        return {"latency_ms": latency.latency_ms, **spread_over_images(latency)}

    def network(self, architecture: Architecture) -> Network:
        """The network of `architecture`, ready for use."""
        return calibrated_network(self.supernet, architecture, self.dataset, self.train)

    def subject(self, network: Network) -> Subject:
        """What the meter times: the compiled network, on many real images if its work depends on them."""
        # No fewer than fill a call, and the last call is filled with the first images again.
        batch = self.target.batch
        calls = -(-(self.target.images if network.config.branches else 1) // batch)
        chosen = torch.arange(calls * batch) % len(self.dataset.search.images)
        images = prepare_images(network, self.dataset, self.dataset.search.images[chosen]).cpu().numpy()
        return Subject(build_runner(network, self.target), np.split(images, calls))


@dataclass(frozen=True)
class HeldOutEvaluator:
    """Scores networks on the test split: for the members of a finished front and for nothing else."""

    networks: SupernetEvaluator

    def evaluate(self, architecture: Architecture) -> Mapping[str, float]:
        """The accuracy to report."""
        network = self.networks.network(architecture)
        return {"test_accuracy": accuracy(network, self.networks.dataset, "test").top1}


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

    supernet: Supernet
    dataset: Dataset
    train: TrainSettings
    target: TargetSettings

    def work(self, job: Job) -> Statistics | Scores:
        """The batch-norm statistics of a network, or its scores."""
        network = self.supernet.extract(job.architecture)
        if known := job.arguments.get("statistics"):
            _restore(network, known)
        else:
            _calibrate(network, self.dataset, self.train)
        if job.name == CALIBRATE:
            return _statistics(network)
        score = accuracy(network, self.dataset, "search")
        timed: Sequence[float] = ()
        if network.config.exits and self.target.batch == 1:  # a batch runs through all of the network
            images = self.dataset.search.images[: self.target.images]
            timed = ways_of(network, prepare_images(network, self.dataset, images)).shares
        return Scores(
            {"accuracy": score.top1},
            score.exit_shares,
            timed,
            _statistics(network),
            _gate_metrics(score.gates) if score.gates else {},
        )


def _result(reply: Answer | None) -> Any:
    assert reply is not None
    return reply.take()


def _statistics(network: Network) -> Statistics:
    return {name: buffer.cpu().numpy() for name, buffer in network.named_buffers() if _is_statistic(name)}


def _restore(network: Network, statistics: Statistics) -> None:
    """Give a network of the same architecture the batch-norm statistics that another one has; for use."""
    buffers = dict(network.named_buffers())
    for name, value in statistics.items():
        buffers[name].copy_(torch.from_numpy(value))
    network.eval()


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "num_batches_tracked"))


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
