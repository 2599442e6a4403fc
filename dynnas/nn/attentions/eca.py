"""Efficient channel attention (Wang et al. 2020, arXiv:1910.03151)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.registry import Attention, register_attention
from dynnas.nn.slicing import Rule, centre


def eca_kernel(channels: int) -> int:
    """Return how many neighbouring channels a gate looks at (equation 12).

    It is (log2(C) + 1) / 2, rounded down and made odd.

    At least 3, as in timm: a kernel of one would see no neighbour.
    """
    size = int((math.log2(channels) + 1) / 2)
    return max(3, size if size % 2 else size + 1)


@register_attention("eca")
class EfficientChannelAttention(Attention):
    """Computes x * sigmoid(conv(GAP(x))), where the convolution runs along the channels.

    The weight is (1, 1, 1, k), a kernel one pixel high: a narrower layer, of a smaller k, takes its centre.
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-1)}
    capacity = 10
    paper = "Wang et al. 2020, arXiv:1910.03151"

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        size = eca_kernel(channels)
        self.weight = nn.Parameter(torch.empty(1, 1, 1, size))
        nn.init.normal_(self.weight, std=size**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        pooled = x.mean((2, 3))[:, None, None]
        gate = torch.sigmoid(F.conv2d(pooled, self.weight, padding=(0, self.weight.shape[3] // 2)))
        return x * gate.flatten(1)[:, :, None, None]
