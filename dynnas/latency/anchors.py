"""The anchors: fixed networks against which all others of a space are timed."""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import numpy as np
import torch

from dynnas.errors import TargetError
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.networks.network import Network
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings
from dynnas.space.architecture import Architecture, Value
from dynnas.space.moves import sample
from dynnas.space.space import Space

_DRAWN = 14
"""Number of random networks that are tried where those from the middle do not run on a target."""


def build_anchors(
    space: Space, target: TargetSettings, channels: int, classes: int, size: tuple[int, int] | None = None
) -> tuple[Workload, ...]:
    """Return two fixed networks from the middle of the space, which have some of every kind of layer.

    How much a busy machine slows a network down depends on what the network does: networks of the same space
    follow each other two to three times as closely as foreign anchors. A network that the target cannot run,
    for want of an operator, is replaced by a random one, always the same.

    Args:
        space: with networks. target: what the anchors are built for. channels, classes: of the data.
        size: height and width of the data, for networks of one's own class.

    Raises:
        TargetError: the target runs fewer than two of those tried; the message is of the first that failed.
    """
    found: list[Workload] = []
    failed: list[TargetError] = []
    for network in anchor_networks(space, channels, classes, size):
        try:
            found.append(_workload(network, target))
        except TargetError as error:
            failed.append(error)
        if len(found) == 2:
            return tuple(found)
    raise failed[0]


def anchor_networks(
    space: Space, channels: int, classes: int, size: tuple[int, int] | None = None
) -> Iterator[Network]:
    """Yield what may be an anchor, the best first, always with the same weights."""
    rng = random.Random(0)
    for turn in range(2 + _DRAWN):
        architecture = _middle(space, turn) if turn < 2 else sample(space, rng)
        if space.model is not None:
            yield _own_network(space, architecture, turn, channels, size)
            continue
        config = space.network_config(architecture, channels, classes).without_gates().without_glance()
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay
            torch.manual_seed(turn)
            network = Network(replace(config, exits=())).eval()
        yield network


def _own_network(
    space: Space, architecture: Architecture, turn: int, channels: int, size: tuple[int, int] | None
) -> Network:
    if size is None:
        raise ValueError("networks of one's own class do not tell the size of their images")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(turn)
        module = space.build(architecture).eval()
    shape = space.image_shape(architecture, (channels, *size))
    return cast(Network, PlainNetwork(module, shape).eval())


def _middle(space: Space, turn: int) -> Architecture:
    """Return the middle value of an ordered list, and the first of an unordered one."""
    values: dict[str, Value] = {}
    turns: dict[str, Iterator[int]] = defaultdict(lambda: itertools.count(turn))
    for gene in space.genes:
        count, knob = len(gene.values), gene.name.rpartition(".")[2]
        values[gene.name] = gene.values[
            (count - 1 + turn) // 2 if gene.ordered else next(turns[knob]) % count
        ]
    return space.architecture(values)


def _workload(network: Network, target: TargetSettings) -> Workload:
    shape = (target.batch, *network.config.shape)
    # No blank image: of one, a device that computes nonsense might make the right answer.
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Workload(build_runner(network, target), [image])
