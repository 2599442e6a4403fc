"""The features of a piece on which its time depends: read off its config and counted on its module."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from dynnas.nn.config.network import BlockConfig, FocusConfig, NetworkConfig, SlotConfig, StemConfig
from dynnas.nn.gates.costs import alternative_macs
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.unfilled import unfilled
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import build, stretches

_LANES = 16
"""Vector width: other numbers of channels leave a part of a processor's vector registers empty."""


@dataclass(frozen=True)
class Piece:
    """A slot and its input (batch, channels, height, width)."""

    config: SlotConfig
    height: int
    width: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Return channels, height and width of the input."""
        return self.channels, self.height, self.width

    @property
    def resolution(self) -> float:
        """Return the side of a square with as many pixels."""
        return math.sqrt(self.height * self.width)

    @property
    def channels(self) -> int:
        """Return the channels of the input."""
        return self.config.in_channels

    @property
    def is_block(self) -> bool:
        """Return whether this is a block, and not the stem, the head or an exit."""
        return isinstance(self.config, BlockConfig)


def pieces_of(config: NetworkConfig) -> tuple[tuple[Piece, ...], ...]:
    """Return the pieces of a network: a tuple for each stretch from one exit to the next, and to the head.

    An image that leaves by exit k has run those of the first k + 1 stretches.
    """
    found = []
    size = config.shape[1:]
    # What chooses the resolution looks at the image before all else, and counts as the largest one.
    pieces = [Piece(first, *size) for first in (config.choice, config.glance) if first]
    size = (config.glance.size, config.glance.size) if config.glance else size
    for stretch in stretches(config):
        for _, slot in stretch.body:
            pieces.append(Piece(slot, *size))
            size = (-(-size[0] // _stride(slot)), -(-size[1] // _stride(slot)))
            if isinstance(slot, FocusConfig) and config.glance:
                size = (config.glance.size, config.glance.size)
        pieces.append(Piece(stretch.classifier[1], *size))
        found.append(tuple(pieces))
        pieces = []
    return tuple(found)


def _stride(slot: SlotConfig) -> int:
    return slot.stride if isinstance(slot, StemConfig | BlockConfig) else 1


@dataclass(frozen=True)
class Traits:
    """The features of a piece, known without running it.

    Attributes:
        numbers: features by name; choices are 1 where made. A name that is absent is 0.
        macs, weights: multiply-adds for an image, and numbers to store.
        kind: pieces of one kind err alike when their times are added up.
        mebibytes, output_mebibytes: of its weights, and of the maps it makes for an image.
        dynamic: whether its kernels are made for each image.
    """

    numbers: Mapping[str, float]
    macs: int
    weights: int
    kind: str
    mebibytes: float
    output_mebibytes: float
    dynamic: bool


@lru_cache(maxsize=100_000)
def traits(piece: Piece) -> Traits:
    """Return the features of a piece; sizes are logarithms, because layers cost a product of them."""
    config = piece.config
    with unfilled():
        module = build(config).eval()
        settle(module)
        x = torch.zeros(1, *piece.shape)
    output, macs = count_macs(module, x)
    if isinstance(config, BlockConfig) and config.gated:
        # Of an image that runs all of it: what masking computes beside that is no part of it.
        macs = max(alternative_macs(config, piece.height, piece.width)[1])
    weights = sum(parameter.numel() for parameter in module.parameters())
    numbers = {
        "resolution": math.log(piece.resolution),
        "in": math.log(piece.channels),
        "macs": math.log(max(macs, 1)),
        "weights": math.log(max(weights, 1)),
        "out": math.log(output[0].numel()),
        f"slot={type(config).__name__}": 1.0,
    }
    if isinstance(config, StemConfig | BlockConfig):
        numbers |= {
            "kernel": math.log(config.kernel),
            "stride": math.log(config.stride),
            f"activation={config.activation}": 1.0,
            "unaligned": float(config.out_channels % _LANES > 0),
        }
    kind, dynamic = type(config).__name__, False
    if isinstance(config, BlockConfig):
        dynamic = KERNELS[config.op.name].input_dependent
        expand = float(config.block.get("expand", 1.0))
        kind = f"{'dynamic' if dynamic else 'static'} block, {config.attention}"
        numbers |= {
            "expand": math.log(expand),
            "experts": math.log(config.op.get("experts", 1)),
            "group": math.log(config.op.get("group", 1) * config.op.get("splits", 1)),
            "rank": float(config.block.get("rank", 0.0)),
            f"block={config.block}": 1.0,
            f"op={config.op}": 1.0,
            f"attention={config.attention}": 1.0,
            "unaligned inside": float(round(config.in_channels * expand) % _LANES > 0),
        }
    return Traits(numbers, macs, weights, kind, 4 * weights / 2**20, 4 * output.numel() / 2**20, dynamic)
