"""Latency that depends on the image: its distribution, by the paths that images take, and in batches.

A *way* is what exits make an image run: it ends at the exit by which the image leaves. What gates leave out
differs from image to image within a way; its time is the mean over some of its images, and its multiply-adds
are told image by image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynnas.latency.latency import Latency
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner, load_runner
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.network import Network
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.batches import build_batch_runner
from dynnas.runtimes.branching import left_by
from dynnas.runtimes.compile import resolve_runtime
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.runtime import BatchExecution, Runner, get_runtime
from dynnas.settings.settings import TargetSettings

IMAGES_OF_A_WAY = 16
"""Maximum number of images timed per path: they run the same work."""

COUNTING_BATCH = 64

_ALIKE = 4
"""Minimum number of images in a group whose runs are taken together, as far as a way has as many."""

TIMES_AS_LONG = 4
"""Timing budget per image, relative to a trial: p95 and worst are single images, and a few runs would leave
them to chance.
"""


@dataclass(frozen=True)
class Ways:
    """The path that each of some images takes.

    Attributes:
        names: of all ways of the network, the shortest first.
        taken: of every image, the index of its way.
        image_macs: of every image, its multiply-adds where gates decide on them, else nothing.
    """

    names: tuple[str, ...]
    taken: tuple[int, ...]
    image_macs: tuple[int, ...] = ()

    @property
    def shares(self) -> tuple[float, ...]:
        """Return the share of the images on each path (0..1)."""
        counts = np.bincount(self.taken, minlength=len(self.names))
        return tuple((counts / len(self.taken)).tolist())

    @property
    def paths(self) -> np.ndarray:
        """Number the paths of the images by their ways, and within one by what gates leave out: (N,) int."""
        macs = self.image_macs or (0,) * len(self.taken)
        return np.unique(np.array([self.taken, macs]), axis=1, return_inverse=True)[1].reshape(-1)

    def alike(self, numbers: Sequence[int]) -> np.ndarray:
        """Number groups of some images that take the same path, or paths next to each other: (numbers,) int.

        A group has four images or more as far as there are as many of a way.
        """
        paths, ways = self.paths[list(numbers)], np.array(self.taken)[list(numbers)]
        found, group, size = np.zeros(len(paths), dtype=int), 0, 0
        order = np.argsort(paths, kind="stable")
        for before, at in zip([order[0], *order], order, strict=False):
            if ways[at] != ways[before] or (paths[at] != paths[before] and size >= _ALIKE):
                group, size = group + 1, 0
            found[at], size = group, size + 1
        return found

    def images_of(self, way: int, most: int = IMAGES_OF_A_WAY) -> list[int]:
        """Return the first `most` images, by number, that take a path."""
        return np.flatnonzero(np.array(self.taken) == way)[:most].tolist()


def representative(paths: np.ndarray, count: int) -> list[int]:
    """Return at most `count` of some images, by number, which take each path about as often as all do.

    They are evenly spaced in the order of the paths, so that each has its share but for one image, and paths
    that are next to each other stand for each other where there are more of them than images.

    Args:
        paths: (N,) int, which path each image takes.
    """
    order = np.argsort(paths, kind="stable")
    count = min(count, len(order))
    places = ((np.arange(count) + 0.5) * len(order) / max(1, count)).astype(int)
    return sorted(order[places].tolist())


def follows_torch(target: TargetSettings, int8: bool = False) -> bool:
    """Return whether images take the paths there that torch says; in another arithmetic some may not."""
    return target.dtype == "float32" and not int8


@torch.inference_mode()
def ways_of(network: Network, images: Tensor) -> Ways:
    """Return the paths of images (N, channels, R, R) through `network`, as torch decides them.

    Another runtime rounds otherwise, and may decide otherwise on an image whose confidence is a threshold.

    Args:
        network: calibrated, in eval mode. images: as `prepare_images` makes them.
    """
    exits: list[Tensor] = []
    macs: list[int] = []
    for part in images.split(COUNTING_BATCH):
        with tracing(network, Decision, Left) as trace:
            outputs = network.logits(part.contiguous(memory_format=torch.channels_last))
        exits.append(left_by(outputs, network.config.exits, trace))
        if decided := trace.of(Decision):
            macs += GateUse.of(cost_of(network), exits[-1], decided).image_macs
    return Ways(network.config.ways, tuple(torch.cat(exits).tolist()), tuple(macs))


@dataclass(frozen=True)
class WayLatency:
    """One path: its share of the images, and its time.

    Attributes:
        share: of the images counted (0..1).
        mean_ms: at batch 1, measured on some of its images; None if no image takes it.
        interval_ms: in which `mean_ms` lies, by bootstrap over the rounds.
    """

    name: str
    share: float
    mean_ms: float | None
    interval_ms: tuple[float, float] | None

    @staticmethod
    def of(name: str, share: float, latency: Latency | None) -> WayLatency:
        """Make it from the meter's result; a path without images has none."""
        if latency is None:
            return WayLatency(name, share, None, None)
        return WayLatency(name, share, latency.mean_ms, latency.interval_ms)


def way_workloads(
    runner: Runner, images: np.ndarray, ways: Ways, paths: np.ndarray | None = None
) -> dict[int, Workload]:
    """Return for each way that is taken, by its index, the network with some of the images that take it.

    Args:
        images: (N, channels, R, R) float32. ways: of these images.
        paths: (N,) int, as a `Workload` takes them.
    """
    chosen = {way: ways.images_of(way) for way in sorted(set(ways.taken))}
    return {
        way: Workload(
            runner, [images[[number]] for number in numbers], None if paths is None else paths[numbers]
        )
        for way, numbers in chosen.items()
    }


def expected_ms(ways: Sequence[WayLatency]) -> float:
    """Return the mean over images, from the count and the time of every path.

    Raises:
        ValueError: a way that images take was not timed.
    """
    untimed = [way.name for way in ways if way.share and way.mean_ms is None]
    if untimed:
        raise ValueError(f"no time for the ways {untimed}, which images take")
    return sum(way.share * way.mean_ms for way in ways if way.mean_ms is not None)


@dataclass(frozen=True)
class BatchLatency:
    """Batches of one size, executed in one way.

    Attributes:
        execution: see `dynnas.runtimes.runtime.BatchExecution`.
        batch: images in a batch. batches: how many different ones were timed.
        batch_ms: mean over the batches. interval_ms: in which it lies, by bootstrap over the rounds.
        image_ms: `batch_ms` for each image.
        ratio: of `image_ms` to an image's mean at batch 1.
    """

    execution: BatchExecution
    batch: int
    batches: int
    batch_ms: float
    interval_ms: tuple[float, float]
    image_ms: float
    ratio: float


@dataclass(frozen=True)
class DependentLatency:
    """The latency of a network on real images.

    Attributes:
        latency: one image at a time, with real branching; mean, median, p95 and worst are over the images.
        image_ms: of every image that was timed; a single one where all take the same.
        image_ways: the index into `ways` of each of them.
        image_macs: multiply-adds of each of them, where gates decide on them, else nothing.
        ways: times at batch 1, and shares of all images counted; the shortest first.
        counted: how many images that were.
        expected_ms: the mean by `ways`.
        batches: the same images in batches; none if there were too few.
    """

    latency: Latency
    image_ms: tuple[float, ...]
    image_ways: tuple[int, ...]
    image_macs: tuple[int, ...]
    ways: tuple[WayLatency, ...]
    counted: int
    expected_ms: float
    batches: tuple[BatchLatency, ...]

    @property
    def is_one_value(self) -> bool:
        """Return whether the work is the same for every image."""
        return len(self.image_ms) == 1

    def to_dict(self) -> dict[str, Any]:
        """Return all values under their names, for JSON."""
        return asdict(self)


def measure_dependent(
    network: Network,
    images: Tensor,
    meter: LatencyMeter,
    target: TargetSettings,
    timed: int,
    batch: int,
    int8: Artifact | None = None,
) -> DependentLatency:
    """Time a network one by one on real images, by the ways that they take, and in batches.

    Args:
        network: calibrated, in eval mode.
        images: (N, channels, R, R), as `prepare_images` makes them; all are counted.
        meter: of `target`.
        timed: how many of them to time, the first ones; one if the work does not depend on the image.
        batch: images in a batch.
        int8: the network in int8, which is timed in its place, and in no batches.

    Raises:
        TargetError, MissingExtraError: as `build_runner`.
    """
    ways = ways_of(network, images)
    pixels = images.cpu().numpy()
    timed = min(timed, len(pixels)) if network.config.branches else 1
    runner = load_runner(network, int8, target) if int8 else build_runner(network, target)
    paths = ways.paths if follows_torch(target, int8 is not None) else None
    every = Workload(
        runner, [pixels[[number]] for number in range(timed)], None if paths is None else paths[:timed]
    )
    # In the same rounds: taken apart, the mean and what it is made of would see the machine at two speeds.
    workloads = way_workloads(runner, pixels, ways, paths) if len(ways.names) > 1 else {}
    (latency, image_ms), *measured = meter.measure_images(
        [every, *workloads.values()], seconds_for(timed, target)
    )
    of_ways = {way: one for way, (one, _) in zip(workloads, measured, strict=True)} or {0: latency}
    by_way = tuple(
        WayLatency.of(name, share, of_ways.get(way))
        for way, (name, share) in enumerate(zip(ways.names, ways.shares, strict=True))
    )
    return DependentLatency(
        latency=latency,
        image_ms=tuple(image_ms.tolist()),
        image_ways=ways.taken[:timed],
        image_macs=ways.image_macs[:timed],
        ways=by_way,
        counted=len(pixels),
        expected_ms=expected_ms(by_way),
        batches=()
        if int8
        else measure_batches(network, pixels[: max(timed, batch)], meter, target, batch, latency.mean_ms),
    )


def seconds_for(images: int, target: TargetSettings) -> float:
    """Return how long to time some number of images for their distribution."""
    return TIMES_AS_LONG * target.seconds * max(1.0, images / target.images)


def measure_batches(
    network: Network,
    images: np.ndarray,
    meter: LatencyMeter,
    target: TargetSettings,
    batch: int,
    alone_ms: float,
) -> tuple[BatchLatency, ...]:
    """Time images (N, channels, R, R) in batches: masked and, with exits, compacted; nothing if N < `batch`.

    Images beyond the last whole batch are left out. `alone_ms` is the mean of an image at batch 1.
    """
    batches = [images[at : at + batch] for at in range(0, len(images) - batch + 1, batch)]
    if not batches:
        return ()
    regroups = not target.remote and get_runtime(resolve_runtime(target)).regroups_gates
    by_group = network.config.exits or (network.config.decides and regroups)
    executions: tuple[BatchExecution, ...] = ("masked", "compacted") if by_group else ("masked",)
    measured = []
    for execution in executions:
        runner = build_batch_runner(network, target, execution)
        latency = meter.measure(Workload(runner, batches))
        image_ms = latency.mean_ms / batch
        measured.append(
            BatchLatency(
                execution,
                batch,
                len(batches),
                latency.mean_ms,
                latency.interval_ms,
                image_ms,
                image_ms / alone_ms,
            )
        )
    return tuple(measured)
