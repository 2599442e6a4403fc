"""Selections of a tensor's channels: taken out, and put back among zeros."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

Channels = int | Tensor
"""A number of leading channels, or the indices (n,) int64 of channels."""


def pick(x: Tensor, channels: Channels | None, axis: int = 1) -> Tensor:
    """Return these channels of `x`, which has any shape, along `axis`; all of them for None."""
    if channels is None:
        return x
    if isinstance(channels, int):
        return x.narrow(axis, 0, channels)
    return x.index_select(axis, channels)


def pick_bias(bias: Tensor | None, channels: Channels | None) -> Tensor | None:
    """Return these channels of a bias (C,), if there is one."""
    return None if bias is None else pick(bias, channels, 0)


def spread(x: Tensor, channels: Channels | None, size: int) -> Tensor:
    """Return the inverse of `pick` for (B, n, ...): (B, `size`, ...) with zeros for the other channels."""
    if channels is None:
        return x
    if isinstance(channels, int):
        return F.pad(x, (0, 0) * (x.dim() - 2) + (0, size - x.shape[1]))
    return x.new_zeros(x.shape[0], size, *x.shape[2:]).index_copy(1, channels, x)
