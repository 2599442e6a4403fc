"""The command `dynnas shelf` without a study: networks timed together, and what could begin with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from dynnas.errors import SpaceError
from dynnas.latency.latency import Latency
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.remote.timer import resolve_target
from dynnas.progress import Progress
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings
from dynnas.space.moves import smallest
from dynnas.supernet.conversion.convert import elastic
from dynnas.workflows.shelf.made import Made, Shape, make

_ANCHORS = 2
"""Number of the networks that are the anchors of the others: the first ones."""


@dataclass(frozen=True)
class Start:
    """A start for a search: the space that `dynnas.elastic` makes of a network with fresh weights.

    Attributes:
        choices: the number of genes; 0 where nothing becomes elastic. reason: why, then.
        share: of the weights, in the smallest member. latency_ms: of the smallest member.
    """

    choices: int = 0
    share: float = 1.0
    latency_ms: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class TimedNetwork:
    """A network from elsewhere with its time.

    Attributes:
        name: by which it was named. shape: (channels, height, width) of its images.
        metrics: `latency_ms`, `bytes` of the file that was timed, and `params` and `macs` where known.
        interval_ms: 95% interval of the latency.
        start: what `dynnas.elastic` makes of it, if that was asked.
    """

    name: str
    shape: Shape
    metrics: Mapping[str, float]
    interval_ms: tuple[float, float]
    start: Start | None = None


def time_networks(
    networks: Sequence[str] | Mapping[str, Callable[[], nn.Module]],
    target: TargetSettings | None = None,
    *,
    shape: Shape | None = None,
    outputs: int | None = None,
    starts: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> list[TimedNetwork]:
    """Time networks from elsewhere in the same rounds, without data or a study.

    Args:
        networks: as in `dynnas.workflows.shelf.shelve.shelve`.
        target: where they run, and for how long each is measured.
        shape: (channels, height, width) of images; not needed for timm's networks and ONNX files, which say
            their own.
        outputs: classes that networks are to tell apart; None for the networks' own number.
        starts: whether to see what `dynnas.elastic` makes of each, and to time the smallest member.
        seed: draws weights and the order of measurements.

    Returns:
        The networks, the fastest first.

    Raises:
        SpaceError: a network cannot be made or run, or does not say what images it takes.
        TargetError: the target cannot run it.
        MissingExtraError: timm or onnxruntime is not installed.
    """
    progress, target = progress or Progress(), resolve_target(target or TargetSettings())
    makers = networks if isinstance(networks, Mapping) else dict.fromkeys(networks)
    made: list[Made] = []
    found: list[tuple[Start | None, Made | None]] = []
    with progress.task("making networks", total=len(makers)) as task:
        for name, maker in makers.items():
            made.append(make(name, maker, shape, outputs, target, seed))
            found.append(_start(made[-1]) if starts else (None, None))
            task.advance()
    sized = [each.workload_and_size(target) for each in made]
    small = [each for _, each in found if each]
    workloads = [workload for workload, _ in sized] + [each.workload(target) for each in small]
    times = LatencyMeter(target, workloads[:_ANCHORS]).measure_jointly(workloads, seed)
    fastest = dict(zip([id(each) for each in small], times[len(made) :], strict=True))
    timed = [
        _timed(each, size, time, _with_time(start, fastest.get(id(member))))
        for each, (_, size), time, (start, member) in zip(made, sized, times, found, strict=False)
    ]
    return sorted(timed, key=lambda each: each.metrics["latency_ms"])


def _start(made: Made) -> tuple[Start, Made | None]:
    """Return what becomes elastic in a network, and its smallest member."""
    if made.network is None:
        return Start(reason="an ONNX file has no layers to change"), None
    images = torch.randn(1, *made.shape, generator=torch.Generator().manual_seed(0))
    try:
        space = elastic(made.network.module, images)
    except SpaceError as error:
        return Start(reason=str(error)), None
    least = space.build(smallest(space))
    weights, whole = (sum(p.numel() for p in each.parameters()) for each in (least, made.network))
    share = weights / whole
    return Start(len(space.genes), share), Made(made.name, made.shape, PlainNetwork(least, made.shape).eval())


def _with_time(start: Start | None, time: Latency | None) -> Start | None:
    if start is None or time is None:
        return start
    return Start(start.choices, start.share, time.mean_ms, start.reason)


def _timed(made: Made, size: int, time: Latency, start: Start | None) -> TimedNetwork:
    low, high = time.interval_ms
    metrics = {**made.metrics, "bytes": float(size), "latency_ms": time.mean_ms}
    return TimedNetwork(made.name, made.shape, metrics, (float(low), float(high)), start)
