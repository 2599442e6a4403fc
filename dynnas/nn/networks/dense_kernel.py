"""A convolution over the channels that many layers have added, with separate weights for each stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.scales import Grown
from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import kernel_spread
from dynnas.nn.slicing import Rule, centre


class DenseKernel(Static):
    """A static convolution of the channels that a scale began with and those that stages have added.

    `weight` (Co, base, k, k) sees the former; for each stage there is one (Co, layers, channels a layer adds,
    k, k). Layers and channels are axes of their own, so that a supernet's leading part of both means the same
    features in every architecture. `settle` joins them into one kernel.
    """

    elastic: ClassVar[Mapping[str, Rule]] = {**Static.elastic, "stage*": centre(-2, -1)}

    def __init__(self, shape: ConvShape, base: int, grown: tuple[Grown, ...], scale: int) -> None:
        """`shape` is that of the whole; `grown` is what stages added to the scale `scale` that it reads."""
        super().__init__(shape)
        out_channels, _, height, width = shape.weight
        spread = kernel_spread(shape.weight)
        self.weight = nn.Parameter(self.weight[:, :base].detach().clone())
        self.parts: tuple[str, ...] = ()
        for number, stage in enumerate(grown):
            if stage.channels(scale):
                part = torch.empty(out_channels, stage.layers, stage.added(scale), height, width)
                self.parts = (*self.parts, f"stage{number}")
                self.register_parameter(f"stage{number}", nn.Parameter(nn.init.normal_(part, std=spread)))

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W), its channels in the order in which they were added."""
        shape = self.shape
        return F.conv2d(x, self.joined(), self.bias, shape.stride, shape.padding)

    def joined(self) -> Tensor:
        """Return the kernel (Co, Ci, k, k)."""
        if not self.parts:
            return self.weight
        return torch.cat([self.weight, *(getattr(self, name).flatten(1, 2) for name in self.parts)], dim=1)

    @torch.no_grad()
    def settle(self) -> None:
        """Join the parts into one kernel."""
        joined = self.joined().detach()
        for name in self.parts:
            delattr(self, name)
        self.parts, self.weight = (), nn.Parameter(joined)
