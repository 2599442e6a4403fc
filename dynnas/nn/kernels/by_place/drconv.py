"""DRConv: dynamic region-aware convolution (Chen et al. 2020, arXiv:2003.12243)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.dynamic_conv.unfold_conv import size_after
from dynnas.nn.kernels.condconv import EXPERTS
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.nn.layers.initial import initialise_kernels, initialise_linear
from dynnas.nn.slicing import Rule, centre
from dynnas.space.knob import Knob, whole


class Regions(nn.Module):
    """Says which region each place of the output is in, by a convolution of the layer's input.

    The region is the one of the largest value. Gradients are those of the softmax (section 3.3).
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-2, -1)}

    def __init__(self, shape: ConvShape, regions: int) -> None:
        """Build it for the geometry of a convolution."""
        super().__init__()
        self.shape = shape
        self.weight = nn.Parameter(torch.empty(regions, shape.in_channels, shape.kernel, shape.kernel))
        initialise_kernels(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, regions, H', W'), which is 1 for the place's region and else 0."""
        logits = convolve(x, self.weight, None, self.shape, groups=1)
        chosen = F.one_hot(logits.argmax(1), self.weight.shape[0]).permute(0, 3, 1, 2).to(x.dtype)
        if not self.training:
            return chosen
        soft = F.softmax(logits, dim=1)
        return chosen + soft - soft.detach()


class RegionMixtures(nn.Module):
    """Predicts 2 / M sigmoid(FC(GAP(x))) for each region and expert; its weight is (regions, M, Ci)."""

    def __init__(self, in_channels: int, regions: int, experts: int) -> None:
        """Build it for `regions` mixtures of `experts` kernels."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(regions, experts, in_channels))
        self.bias = nn.Parameter(torch.empty(regions, experts))
        initialise_linear(self.weight, self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, regions, M)."""
        logits = F.linear(x.mean((2, 3)), self.weight.flatten(0, 1), self.bias.flatten())
        return 2 / self.bias.shape[1] * torch.sigmoid(logits).unflatten(1, self.bias.shape)


@register_kernel("drconv")
class RegionConv(Kernel):
    """Convolves each region of the image with a kernel of its own, which the image generates.

    y(p) = (sum_m a_rm(x) W_m) * x at p, with r the region of p. The kernels of regions are mixtures of a
    bank, as in the authors' code. By linearity the bank is convolved first and mixed at every place: the work
    is that of M convolutions, whatever the regions are.
    """

    knobs = (
        EXPERTS,
        Knob("regions", whole(1, 64), "regions of an image that have a kernel of their own", default=4),
    )
    capacity = 62
    paper = "Chen et al. 2020, arXiv:2003.12243"

    def __init__(self, shape: ConvShape, experts: int = 4, regions: int = 4) -> None:
        """Make a bank of `experts` kernels, and what mixes them for each of `regions`."""
        super().__init__(shape, experts)
        self.experts = experts
        self.drconv_regions = Regions(shape, regions)
        self.drconv_mixtures = RegionMixtures(shape.in_channels, regions, experts)

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        regions = self.drconv_regions(x)
        weights = self.drconv_mixtures(x).transpose(1, 2) @ regions.flatten(2)
        weights = weights.unflatten(2, size_after(x, self.shape))
        maps = (
            weights[:, expert, None] * convolve(x, self.weight[expert], None, self.shape)
            for expert in range(self.experts)
        )
        y = sum(maps, start=x.new_zeros(()))
        return y if self.bias is None else y + self.bias[:, None, None]

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of mixing the maps, for `x` (B, Ci, H, W)."""
        height, width = size_after(x, self.shape)
        return self.experts * x.shape[0] * self.shape.out_channels * height * width
