"""BAM: bottleneck attention module (Park et al. 2018, arXiv:1807.06514)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape, pointwise
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.registry import Attention, register_attention

DILATION = 4


@register_attention("bam")
class BottleneckAttention(Attention):
    """Computes x * (1 + sigmoid(c + s)): c is one logit for each channel, s one for each pixel.

    c = BN(FC(FC(GAP(x)))), and s = BN(conv1x1(conv3x3(conv3x3(conv1x1(x))))), where the 3x3 convolutions are
    dilated by 4 (equations 3 to 5). Both have max(1, C // 16) channels inside. The inner convolutions of s
    have a batch norm and a ReLU each, as in the authors' code; that code multiplies c and s, where the paper
    adds them.
    """

    capacity = 26
    paper = "Park et al. 2018, arXiv:1807.06514"

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        hidden = max(1, channels // 16)
        wide = ConvShape(hidden, hidden, 3, dilation=DILATION)
        self.squeeze = nn.Linear(channels, hidden)
        self.expand = ConvUnit(Static(pointwise(hidden, channels)), nn.Identity())
        self.places = nn.Sequential(
            ConvUnit(Static(pointwise(channels, hidden)), nn.ReLU()),
            ConvUnit(Static(wide), nn.ReLU()),
            ConvUnit(Static(wide), nn.ReLU()),
            ConvUnit(Static(pointwise(hidden, 1)), nn.Identity()),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        channels = self.expand(self.squeeze(x.mean((2, 3)))[:, :, None, None])
        return x * (1 + torch.sigmoid(channels + self.places(x)))
