"""CBAM: convolutional block attention module (Woo et al. 2018, arXiv:1807.06521)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.registry import Attention, register_attention

SPATIAL_KERNEL = 7


@register_attention("cbam")
class BlockAttention(Attention):
    """Scales every channel by a gate of its own, then every pixel (sections 3.1 and 3.2).

    The channels' is sigmoid(MLP(average pool) + MLP(max pool)) with one MLP of max(1, C // 16) hidden units
    and no biases; the pixels' is sigmoid(7x7 convolution of the mean and the maximum over channels), with a
    batch norm, as in the authors' code.
    """

    capacity = 30
    paper = "Woo et al. 2018, arXiv:1807.06521"

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        hidden = max(1, channels // 16)
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.expand = nn.Linear(hidden, channels, bias=False)
        self.spatial = ConvUnit(Static(ConvShape(2, 1, SPATIAL_KERNEL)), nn.Identity())

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        logits = self._mlp(x.mean((2, 3))) + self._mlp(x.amax((2, 3)))
        x = x * torch.sigmoid(logits)[:, :, None, None]
        summary = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(summary))

    def _mlp(self, pooled: Tensor) -> Tensor:
        return self.expand(F.relu(self.reduce(pooled)))
