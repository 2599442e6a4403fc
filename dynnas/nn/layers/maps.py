"""Feature maps of several scales, and how they are packed into one tensor."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Maps = tuple[Tensor, ...]
"""The maps of all scales, (B, C * 2^s, H / 2^s, W / 2^s), the finest first."""


def pack(maps: Maps) -> Tensor:
    """Pack the maps (B, C_s, H_s, W_s) of all scales into one of the coarsest resolution.

    Its channels are the sum of C_s * 4^(S - 1 - s).
    """
    return torch.cat([F.pixel_unshuffle(x, 2 ** (len(maps) - 1 - s)) for s, x in enumerate(maps)], dim=1)


def unpack(x: Tensor, channels: list[int]) -> Maps:
    """Undo `pack`: return the maps (B, C_s, H_s, W_s) of every scale, with these numbers of `channels`."""
    sides = [2 ** (len(channels) - 1 - scale) for scale in range(len(channels))]
    parts = x.split([count * side**2 for count, side in zip(channels, sides, strict=True)], dim=1)
    return tuple(F.pixel_shuffle(part, side) for part, side in zip(parts, sides, strict=True))
