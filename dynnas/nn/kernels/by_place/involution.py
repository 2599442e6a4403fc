"""Involution: a kernel for each place, shared by channels (Li et al. 2021, arXiv:2103.06255)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.nn.dynamic_conv.unfold_conv import size_after, taps
from dynnas.nn.facts import DEPTHWISE, Requirement
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape, convolve, pointwise
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.slicing import Rule, centre

GROUP_CHANNELS = 16
"""The number of channels that share a kernel."""


class PlaceKernels(nn.Module):
    """Predicts W1 ReLU(BN(W0 x)): a k x k kernel for each place and 16 channels, with C // 4 units between.

    W1 is (groups, hidden, k, k), so that a smaller kernel is its centre. Where the convolution has a stride,
    the input is averaged over as many pixels (figure 2, and the authors' code).
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-2, -1), "bias": centre(-2, -1)}

    def __init__(self, shape: ConvShape) -> None:
        """Build it for a depthwise convolution."""
        super().__init__()
        self.stride = shape.stride
        hidden, groups = max(1, shape.in_channels // 4), math.ceil(shape.in_channels / GROUP_CHANNELS)
        self.reduce = ConvUnit(Static(pointwise(shape.in_channels, hidden)), nn.ReLU())
        self.weight = nn.Parameter(torch.empty(groups, hidden, shape.kernel, shape.kernel))
        self.bias = nn.Parameter(torch.zeros(groups, shape.kernel, shape.kernel))
        nn.init.normal_(self.weight, std=(hidden * shape.kernel**2) ** -0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, groups, k * k, H' * W')."""
        if self.stride > 1:
            x = F.avg_pool2d(x, self.stride, self.stride, ceil_mode=True)
        groups, taps_each = self.bias.shape[0], self.bias[0].numel()
        weight = self.weight.flatten(2).transpose(1, 2).flatten(0, 1)
        kernels = F.conv2d(self.reduce(x), weight[:, :, None, None], self.bias.flatten())
        return kernels.flatten(2).unflatten(1, (groups, taps_each))


@register_kernel("involution")
class Involution(Kernel):
    """Sums what a tap sees by a kernel of the place, which 16 channels share: convolution inside out.

    y_c(p) = sum_t H_t(p, c // 16) x_c(p + t). It takes the place of depthwise convolutions; others stay
    ordinary, and the language refuses blocks that have none. A kernel of one's own for each channel is what
    an involution does without, so it has no weight of the bank's name.
    """

    capacity = 35
    paper = "Li et al. 2021, arXiv:2103.06255"
    requires = (
        *Kernel.requires,
        Requirement(
            ("block",),
            DEPTHWISE,
            "it takes the place of depthwise convolutions, and the block has none",
        ),
    )

    involution_scale: Tensor | None

    def __init__(self, shape: ConvShape) -> None:
        """Make the generator of kernels where the convolution is depthwise, and else a kernel.

        Raises:
            SpaceError: the convolution is depthwise and does not keep the size of its input up to its stride.
        """
        super().__init__(shape)
        self.involution_kernels = PlaceKernels(shape) if shape.depthwise else None
        if not shape.depthwise:
            return
        if shape.kernel % 2 == 0 or shape.padding != shape.kernel // 2 * shape.dilation:
            raise SpaceError(
                f"op 'involution' takes an odd kernel and half of it as padding, not {shape.kernel} pixels "
                f"and {shape.padding}"
            )
        self.register_parameter("weight", None)
        self.register_parameter("involution_scale", None)

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        shape = self.shape
        if self.involution_kernels is None:
            return convolve(x, self.weight, self.bias, shape)
        kernels, columns = self.involution_kernels(x), taps(x, shape)
        each = kernels[:, :, None].expand(-1, -1, GROUP_CHANNELS, -1, -1).flatten(1, 2)
        y = (columns * each[:, : shape.in_channels]).sum(2).unflatten(2, size_after(x, shape))
        if self.involution_scale is not None:
            y = y * self.involution_scale[:, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]

    @torch.no_grad()
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,); channels share kernels, so it stays a scale."""
        if self.involution_kernels is None:
            super().absorb(scale, shift)
            return
        before = self.involution_scale
        self.involution_scale = nn.Parameter(scale.clone() if before is None else scale * before)
        self.bias = nn.Parameter(shift.clone() if self.bias is None else self.bias * scale + shift)

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of weighing every tap, for `x` (B, Ci, H, W)."""
        if self.involution_kernels is None:
            return 0
        height, width = size_after(x, self.shape)
        return self.shape.kernel**2 * x.shape[0] * x.shape[1] * height * width

    def extra_repr(self) -> str:
        """Return the geometry."""
        return f"{self.shape}"
