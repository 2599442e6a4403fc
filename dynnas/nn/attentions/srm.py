"""SRM: style-based recalibration module (Lee et al. 2019, arXiv:1903.10829)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.registry import Attention, register_attention

SMALLEST_VARIANCE = 1e-5
"""It is added under the root, whose slope has no limit at zero."""


@register_attention("srm")
class StyleRecalibration(Attention):
    """Computes x * sigmoid(BN(w . (mean, standard deviation))) with two weights for each channel.

    Mean and deviation of a channel over places are its style; no channel sees another (equations 1 to 5).
    """

    capacity = 12
    paper = "Lee et al. 2019, arXiv:1903.10829"

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        self.style = ConvUnit(Static(ConvShape(2 * channels, channels, groups=channels)), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        mean = x.mean((2, 3), keepdim=True)
        variance = (x - mean).square().mean((2, 3), keepdim=True)
        style = torch.stack([mean, (variance + SMALLEST_VARIANCE).sqrt()], dim=2).flatten(1, 2)
        return x * torch.sigmoid(self.style(style))
