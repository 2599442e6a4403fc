"""ACNet: adaptively connected networks (Wang et al. 2019, arXiv:1904.03579)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.nn.layers.initial import linear
from dynnas.nn.slicing import parts


class GlobalConnection(nn.Module):
    """Predicts g = FC(ReLU(FC(GAP(x)))), and for each place and channel how much of it counts.

    That is sigmoid(conv1x1(ReLU(conv1x1([y, g])))) for the local result y. Hidden layers have a quarter of
    the output channels; in the authors' code they have as many.
    """

    def __init__(self, shape: ConvShape) -> None:
        """Build it for a convolution."""
        super().__init__()
        self.hidden, self.channels = max(1, shape.out_channels // 4), shape.out_channels
        self.reduce = linear(shape.in_channels, self.hidden)
        self.expand = linear(self.hidden, self.channels)
        self.compare = nn.Conv2d(2 * self.channels, self.hidden, 1, bias=False)
        self.count = nn.Conv2d(self.hidden, self.channels, 1, bias=False)
        self.compare.elastic = {"weight": parts(self.channels, self.channels, axis=1)}  # type: ignore[assignment]

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Map layer input (B, Ci, H, W) and local result (B, Co, H', W') to what is added to the latter."""
        everywhere = self.expand(F.relu(self.reduce(x.mean((2, 3)))))[:, :, None, None]
        both = torch.cat([y, everywhere.expand_as(y)], dim=1)
        return everywhere * torch.sigmoid(self.count(F.relu(self.compare(both))))


@register_kernel("acnet")
class AdaptiveConnection(Kernel):
    """Adds to each place of a convolution what the whole image says, by as much as the place wants.

    y = W * x + g(x) s(W * x, g(x)): the pixel-aware form of the authors' code, whose local connection is
    always there. It switches between a convolution and a perceptron over the image, place by place.
    """

    capacity = 45
    paper = "Wang et al. 2019, arXiv:1904.03579"

    acnet_scale: Tensor | None

    def __init__(self, shape: ConvShape) -> None:
        """Make a kernel and the global connection."""
        super().__init__(shape)
        self.acnet_global = GlobalConnection(shape)
        self.register_parameter("acnet_scale", None)

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        y = convolve(x, self.weight, None, self.shape)
        y = y + self.acnet_global(x, y)
        if self.acnet_scale is not None:
            y = y * self.acnet_scale[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]

    @torch.no_grad()
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,); the gates look at y, so the scale stays one."""
        before = self.acnet_scale
        self.acnet_scale = nn.Parameter(scale.clone() if before is None else scale * before)
        self.bias = nn.Parameter(shift.clone() if self.bias is None else self.bias * scale + shift)
