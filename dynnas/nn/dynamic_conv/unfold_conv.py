"""A convolution taken apart: the pixels under each tap of the kernel, and their sum with its weights.

For ops that change what a tap sees (its place, or how much it counts) from pixel to pixel.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.layers.conv_shape import ConvShape


def taps(x: Tensor, shape: ConvShape) -> Tensor:
    """Return the pixels under each tap: (B, C, H, W) to (B, C, k * k, H' * W'), zero outside."""
    columns = F.unfold(x, shape.kernel, shape.dilation, shape.padding, shape.stride)
    return columns.unflatten(1, (-1, shape.kernel**2))


def size_after(x: Tensor, shape: ConvShape) -> tuple[int, int]:
    """Return height and width of the convolution's output for an input (B, C, H, W)."""
    height, width = x.shape[2:]
    return shape.size_after(height), shape.size_after(width)


def weigh_taps(columns: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
    """Convolve the pixels under the taps: (B, Ci, k * k, S) and (Co, Ci / groups, k, k) to (B, Co, S)."""
    seen = columns.unflatten(1, (groups, -1)).flatten(2, 3)
    y = (weight.unflatten(0, (groups, -1)).flatten(2) @ seen).flatten(1, 2)
    return y if bias is None else y + bias[:, None]
