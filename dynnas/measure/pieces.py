"""Networks in pieces: every slot with the size of the maps that reach it; nothing else decides its time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from dynnas.device import Subject
from dynnas.ops import Network, Segment
from dynnas.ops.network import Body, build, stretches
from dynnas.runtime import build_runner
from dynnas.space.network import BlockConfig, ExitPlace, FocusConfig, NetworkConfig, SlotConfig, StemConfig
from dynnas.space.settings import TargetSettings


@dataclass(frozen=True)
class Piece:
    """A slot and its input (batch, channels, resolution, resolution)."""

    config: SlotConfig
    resolution: int

    @property
    def channels(self) -> int:
        """Of the input."""
        return self.config.in_channels

    @property
    def is_block(self) -> bool:
        """Not the stem, the head or an exit."""
        return isinstance(self.config, BlockConfig)

    def subject(self, target: TargetSettings) -> Subject:
        """The piece alone, ready to be timed, with weights that do not matter."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            module = build(self.config).eval()
        # Runtimes read no more of a network than what this has.
        runner = build_runner(cast(Network, _Alone(module, self)), target)
        shape = (target.batch, self.channels, self.resolution, self.resolution)
        image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return Subject(runner, [image])


def pieces_of(config: NetworkConfig) -> tuple[tuple[Piece, ...], ...]:
    """The pieces of a network, a tuple for each stretch from one exit to the next, and to the head.

    An image that leaves by exit k has run those of the first k + 1 stretches.
    """
    found = []
    resolution = config.resolution
    # What chooses the resolution looks at the image before all else, and counts as the largest one.
    pieces = [Piece(first, resolution) for first in (config.choice, config.glance) if first]
    resolution = config.glance.size if config.glance else resolution
    for stretch in stretches(config):
        for _, slot in stretch.body:
            pieces.append(Piece(slot, resolution))
            resolution = -(-resolution // _stride(slot))
            if isinstance(slot, FocusConfig) and config.glance:
                resolution = config.glance.size
        pieces.append(Piece(stretch.classifier[1], resolution))
        found.append(tuple(pieces))
        pieces = []
    return tuple(found)


def _stride(slot: SlotConfig) -> int:
    return slot.stride if isinstance(slot, StemConfig | BlockConfig) else 1


_ALWAYS, _NEVER = 0.0, 2.0
"""Thresholds of a confidence that every image reaches, and none."""


@dataclass(frozen=True)
class Way:
    """What an image runs that leaves by the exit of index `exit`; the number of exits stands for the head."""

    config: NetworkConfig
    exit: int

    @staticmethod
    def of(config: NetworkConfig, exit: int) -> Way:
        """With thresholds that lead every image there."""
        places = tuple(
            replace(place, threshold=_ALWAYS if index == exit else _NEVER)
            for index, place in enumerate(config.exits)
        )
        return Way(replace(config, exits=places), exit)

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """All that the image runs through."""
        return sum(pieces_of(self.config)[: self.exit + 1], ())

    def subject(self, target: TargetSettings) -> Subject:
        """Ready to be timed, with weights that do not matter."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = Network(self.config).eval()
        shape = (target.batch, self.config.channels, self.config.resolution, self.config.resolution)
        image = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
        return Subject(build_runner(network, target), [image])


@dataclass(frozen=True)
class _AloneConfig:
    channels: int
    resolution: int
    exits: tuple[ExitPlace, ...] = ()
    branches: bool = False


class _Alone(nn.Module):
    """One slot in the place of a network."""

    def __init__(self, module: nn.Module, piece: Piece) -> None:
        super().__init__()
        self.config = _AloneConfig(piece.channels, piece.resolution)
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)

    def logits(self, x: Tensor) -> tuple[Tensor]:
        return (self.module(x),)

    def segments(self) -> list[Segment]:
        return [Segment(Body(self.module), nn.Identity(), None)]
