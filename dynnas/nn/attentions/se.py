"""Squeeze-and-excitation (Hu et al. 2018, arXiv:1709.01507), with the reduction of MobileNetV3."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.layers.initial import linear
from dynnas.nn.registry import Attention, register_attention


@register_attention("se")
class SqueezeExcite(Attention):
    """Computes x * sigmoid(FC(ReLU(FC(GAP(x))))), with max(1, C // 4) hidden units."""

    capacity = 20
    paper = "Hu et al. 2018, arXiv:1709.01507"

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        hidden = max(1, channels // 4)
        self.reduce = linear(channels, hidden)
        self.expand = linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        gate = torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3))))))
        return x * gate[:, :, None, None]
