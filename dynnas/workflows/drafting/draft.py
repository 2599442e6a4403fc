"""The command `dynnas init`: it looks at data and device, and drafts a space file that spans a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from dynnas.data.dataset import Dataset
from dynnas.data.load import load_data
from dynnas.data.sources.pictures import DAMAGED, SUFFIXES
from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.remote.timer import resolve_target
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import DataSettings, TargetSettings
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space
from dynnas.workflows.drafting.text import Draft

Times = Callable[[Space, Dataset, TargetSettings], tuple[float, float]]
"""A function that times the smallest and the largest network of a space, in milliseconds."""

_LOOKED_AT = 64
_LONG = 1.2
"""Ratio of the sides of pictures from which they are taken as rectangles."""

_MOST_SIDE = 224
_ROUNDS = 6
_ROOM = 1.6
"""Time of the largest network that is aimed at, over the limit: a front should end at it, not before."""


def draft_space(
    data: DataSettings,
    limits: Mapping[str, float] | None = None,
    target: TargetSettings | None = None,
    *,
    progress: Progress | None = None,
    time_ends: Times | None = None,
) -> str:
    """Return a commented space file for data: their task and size, and networks around a latency.

    Args:
        data: what to read. Without a size, pictures of a folder that are mostly no squares are taken as
            rectangles of their usual ratio, the shorter side at most 224 pixels.
        limits: upper limits by metric; with `latency_ms` widths are scaled until the largest network takes
            longer than that and the smallest less.
        target: where networks will run.
        progress: told what was read and timed.
        time_ends: times networks in place of this function's own way.

    Raises:
        DataError: the data cannot be read.
        TargetError: the target cannot be used.
        SpaceError: the limit is below what the smallest networks take.
    """
    progress, target = progress or Progress(), target or TargetSettings()
    if not data.size and (rectangle := usual_rectangle(Path(data.source).expanduser())):
        data = replace(data, size=rectangle, fit=data.fit or "pad")
    dataset = load_data(data, progress)
    path = Path(data.source).expanduser()
    located = replace(data, source=str(path.resolve())) if path.exists() else data
    draft = Draft(
        data=located,
        target=target,
        summary=dataset.summary,
        size=dataset.size,
        answers=dataset.task.answers,
        task=dataset.task.name,
        score=dataset.task.metrics[0].name,
        exits=dataset.task.name == "classification" and dataset.size[0] == dataset.size[1],
        train_images=len(dataset.train),
        limits=dict(limits or {}),
    )
    limit = draft.limits.get("latency_ms")
    if limit is None:
        return draft.text()
    draft, ends = _scaled(draft, dataset, limit, time_ends or time_of_ends, progress)
    least, most = ends
    return draft.text(
        f"On {target.device} the smallest of these networks takes about {least:.3g} ms, the largest "
        f"{most:.3g} ms; the limit is {limit:g} ms."
    )


def usual_rectangle(folder: Path) -> tuple[int, int] | None:
    """Return height and width of the usual ratio of a folder's pictures; None for squares or no folder.

    The shorter side is that of the median picture, at most 224; both are multiples of 16, if they are larger.
    """
    if not folder.is_dir():
        return None
    sizes = []
    pictures = (path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES)
    for path in islice(pictures, _LOOKED_AT):
        try:
            with Image.open(path) as picture:
                sizes.append(picture.size)
        except DAMAGED:  # the reader says which
            continue
    if not sizes:
        return None
    width, height = np.median(np.array(sizes), axis=0)
    if max(width, height) / min(width, height) < _LONG:
        return None
    scale = min(1.0, _MOST_SIDE / min(width, height))
    return _rounded(height * scale), _rounded(width * scale)


def _rounded(side: float) -> int:
    return round(side) if side < 64 else round(side / 16) * 16


def time_of_ends(space: Space, dataset: Dataset, target: TargetSettings) -> tuple[float, float]:
    """Time the smallest and the largest network of a space, without training: milliseconds.

    Raises:
        TargetError: the target cannot be used.
    """
    target = replace(resolve_target(target), seconds=0.2)
    space = space.of_data(dataset.shape, dataset.task)
    networks = [_network(space, each(space), dataset) for each in (smallest, largest)]
    shapes = [(target.batch, *network.config.shape) for network in networks]
    workloads = [
        Workload(build_runner(network, target), [np.random.default_rng(0).random(shape, dtype=np.float32)])
        for network, shape in zip(networks, shapes, strict=True)
    ]
    meter = LatencyMeter(target, workloads[:1])
    least, most = meter.measure_jointly(workloads)
    return least.median_ms, most.median_ms


def _network(space: Space, architecture: Architecture, dataset: Dataset) -> Network:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if space.model is None:
            config = space.network_config(architecture, dataset.channels, dataset.task.outputs)
            return Network(replace(config.without_gates(), exits=())).eval()
        module: nn.Module = space.build(architecture).eval()
    return cast(Network, PlainNetwork(module, space.image_shape(architecture, dataset.shape)).eval())


def _scaled(
    draft: Draft, dataset: Dataset, limit: float, time_ends: Times, progress: Progress
) -> tuple[Draft, tuple[float, float]]:
    """Return the draft whose largest networks take somewhat longer than the limit, and the times of its ends.

    Raises:
        SpaceError: networks of the least width take longer.
    """
    best: tuple[float, Draft, tuple[float, float]] | None = None
    with progress.task("timing networks of the draft", total=_ROUNDS) as task:
        for _ in range(_ROUNDS):
            ends = time_ends(parse_space(draft.text()), dataset, draft.target)
            task.advance()
            least, most = ends
            missed = abs(math.log(most / (_ROOM * limit))) + (10 if least > limit else 0)
            if best is None or missed < best[0]:
                best = missed, draft, ends
            if limit < most < _ROOM**2 * limit and least < limit / 1.5:
                break
            if least > limit / 1.5 and len(draft.shrunk) < 3:
                draft = replace(draft, shrunk=(0.5, *draft.shrunk))
            # Time grows somewhat less than the square of the widths.
            step = (_ROOM * limit / most) ** (1 / 1.7)
            draft = replace(draft, scale=min(8.0, max(0.2, draft.scale * step)))
    assert best is not None
    _, draft, ends = best
    if ends[0] > limit:
        raise SpaceError(
            f"init: the smallest networks for images of {draft.size[0]} x {draft.size[1]} take "
            f"{ends[0]:.3g} ms on {draft.target.device}, and the limit is {limit:g} ms; give a smaller "
            "data.size, or more time"
        )
    return draft, ends
