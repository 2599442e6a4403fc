"""The evaluator of a study: networks extracted from a trained supernet, scored as they would ship."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from dynnas.data import Dataset, resize
from dynnas.measure import (
    AnchorReference,
    Cost,
    Latency,
    LatencyMeter,
    LatencyPredictor,
    Subject,
    accuracy,
    build_anchors,
    cost,
    prepare_images,
    resolve_target,
)
from dynnas.measure.dependent import ways_of
from dynnas.ops import Network
from dynnas.runtime import build_runner
from dynnas.search.cache import provenance_digest
from dynnas.space import Architecture, Space, TargetSettings, TrainSettings
from dynnas.supernet import Supernet
from dynnas.training import calibrate


def calibrated_network(
    supernet: Supernet, architecture: Architecture, dataset: Dataset, train: TrainSettings
) -> Network:
    """The network of `architecture` with its own weights and batch-norm statistics, ready for use."""
    return _calibrate(supernet.extract(architecture), dataset, train)


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

    The stages are size, latency, accuracy; a network with exits is calibrated before it is timed, for where
    its images leave depends on its statistics. With a `predictor` of latencies they are size, prediction,
    accuracy, latency, so that what is hopeless need not be timed; where images leave must be known for
    a prediction, so that a network with exits has its accuracy first.
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
        config = self.supernet.config(architecture)
        size = cost(config)
        yield {"macs": size.macs, "params": size.params}

        network = self.supernet.extract(architecture)
        if self.predictor is None:
            if config.exits:
                _calibrate(network, self.dataset, self.train)
            yield self.latency(network)
            if not config.exits:
                _calibrate(network, self.dataset, self.train)
            yield self._accuracy(network, size)
            return

        scale = self.meter.reference.anchor_ms
        by_exit = [scale * ratio for ratio in self.predictor.predict(config)]
        if not config.exits:
            yield {"predicted_ms": by_exit[0]}
        _calibrate(network, self.dataset, self.train)
        scores = self._accuracy(network, size)
        if config.exits:
            scores = {**scores, "predicted_ms": self._expected_ms(network, by_exit)}
        yield scores
        yield self.latency(network)

    def _expected_ms(self, network: Network, by_exit: Sequence[float]) -> float:
        """The mean over the images that would be timed."""
        if self.target.batch > 1:
            return by_exit[-1]  # a batch runs through all of the network, whoever leaves
        images = self.dataset.search.images[: self.target.images]
        shares = ways_of(network, prepare_images(network, self.dataset, images)).shares
        return sum(share * ms for share, ms in zip(shares, by_exit, strict=True))

    def latency(self, network: Network) -> Mapping[str, float]:
        """The metrics of a network, ready for use, that only the clock can tell."""
        latency = self.meter.measure(self.subject(network))
        return {"latency_ms": latency.latency_ms, **spread_over_images(latency)}

    def _accuracy(self, network: Network, size: Cost) -> Mapping[str, float]:
        score = accuracy(network, self.dataset, "search")
        exits = [place.name for place in network.config.exits]
        return {"accuracy": score.top1, **_exit_metrics(exits, score.exit_shares, size)}

    def network(self, architecture: Architecture) -> Network:
        """The network of `architecture`, ready for use."""
        return calibrated_network(self.supernet, architecture, self.dataset, self.train)

    def subject(self, network: Network) -> Subject:
        """What the meter times: the compiled network, on many real images if its work depends on them."""
        # No fewer than fill a call, and the last call is filled with the first images again.
        batch = self.target.batch
        calls = -(-(self.target.images if network.config.exits else 1) // batch)
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


def _exit_metrics(exits: Sequence[str], shares: Sequence[float], size: Cost) -> dict[str, float]:
    """Where images leave and what they cost in the mean; nothing for a network without exits."""
    if not exits:
        return {}
    leaving = {f"exit_share.{name}": share for name, share in zip((*exits, "head"), shares, strict=True)}
    return {"expected_macs": size.expected_macs(shares), **leaving}


def spread_over_images(latency: Latency) -> dict[str, float]:
    """The latency's distribution over images, as metrics."""
    return {
        "mean_ms": latency.mean_ms,
        "median_ms": latency.median_ms,
        "p95_ms": latency.p95_ms,
        "worst_ms": latency.worst_ms,
    }
