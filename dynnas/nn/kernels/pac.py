"""Pixel-adaptive convolution (Su et al. 2019, arXiv:1904.05373, equation 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.dynamic_conv.unfold_conv import size_after, taps, weigh_taps
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve

GUIDE_CHANNELS = 8


class Guide(nn.Module):
    """Predicts features by which pixels are alike or not: a 1x1 projection of the input to 8 channels.

    It starts so that unrelated pixels of unit variance count e**-1.
    """

    def __init__(self, in_channels: int) -> None:
        """Build it for inputs of `in_channels` channels."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(GUIDE_CHANNELS, in_channels, 1, 1))
        nn.init.normal_(self.weight, std=(GUIDE_CHANNELS * in_channels) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, 8, H, W)."""
        return F.conv2d(x, self.weight)


@register_kernel("pac")
class PixelAdaptive(Kernel):
    """Weights each tap of one kernel by exp(-|f_p - f_q|**2 / 2), with guides f at tap and centre.

    A kernel of one tap sees only its own pixel, which counts 1: pointwise convolutions are ordinary ones.
    """

    capacity = 30
    paper = "Su et al. 2019, arXiv:1904.05373"

    def __init__(self, shape: ConvShape) -> None:
        """Make a kernel, and a guide if it has more than one tap."""
        super().__init__(shape)
        self.pac_guide = Guide(shape.in_channels) if shape.kernel > 1 else None

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        shape = self.shape
        if self.pac_guide is None:
            return convolve(x, self.weight, self.bias, shape)
        guides = taps(self.pac_guide(x), shape)
        centre = shape.kernel**2 // 2
        distance = (guides - guides[:, :, centre : centre + 1]).square().sum(1, keepdim=True)
        columns = taps(x, shape) * torch.exp(-0.5 * distance)
        return weigh_taps(columns, self.weight, self.bias, shape.groups).unflatten(2, size_after(x, shape))

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of the distances and of weighing every tap, for `x` (B, Ci, H, W)."""
        if self.pac_guide is None:
            return 0
        height, width = size_after(x, self.shape)
        return (GUIDE_CHANNELS + x.shape[1]) * self.shape.kernel**2 * x.shape[0] * height * width
