"""DyNet: dynamic convolution with coefficients per output channel (Zhang et al. 2020, arXiv:2004.10694)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import initialise_linear
from dynnas.space.knob import Knob, whole


class ChannelCoefficients(nn.Module):
    """Predicts sigmoid(FC(v)): coefficients for every output channel and expert of one convolution.

    The weight is (Co, M, C), so that fewer channels or experts are a leading part of it.
    """

    def __init__(self, in_channels: int, out_channels: int, experts: int) -> None:
        """Build it for vectors of `in_channels` numbers."""
        super().__init__()
        self.size = (out_channels, experts)
        self.weight = nn.Parameter(torch.empty(out_channels, experts, in_channels))
        self.bias = nn.Parameter(torch.empty(out_channels, experts))
        initialise_linear(self.weight, self.bias)

    def forward(self, v: Tensor) -> Tensor:
        """Map (B, C) to (B, Co, M)."""
        logits = F.linear(v, self.weight.flatten(0, 1), self.bias.flatten())
        return torch.sigmoid(logits).view(-1, *self.size)


class DyNetRouter(nn.Module):
    """The coefficients of all of a block's convolutions, predicted from its pooled input (section 3.2)."""

    def __init__(self, in_channels: int, group: int, convs: Mapping[str, ConvShape]) -> None:
        """`convs` are the block's convolutions, with `group` kernels each."""
        super().__init__()
        self.convs = nn.ModuleDict(
            {
                name: ChannelCoefficients(in_channels, shape.out_channels, group)
                for name, shape in convs.items()
            }
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map block input (B, C, H, W) to coefficients (B, Co, M) for each convolution."""
        pooled = x.mean((2, 3))
        return {name: coefficients(pooled) for name, coefficients in self.convs.items()}


GROUP = Knob("group", whole(1, 64), "kernels mixed for each output channel", default=4)


@register_kernel("dynet")
class DyNet(Kernel):
    """Mixes a bank of `group` kernels per output channel, for each image, by sigmoid coefficients."""

    knobs = (GROUP,)
    capacity = 70
    paper = "Zhang et al. 2020, arXiv:2004.10694"

    def __init__(self, shape: ConvShape, group: int = 4) -> None:
        """Make a bank of `group` kernels."""
        super().__init__(shape, group)

    def part(self, x: Tensor, route: Tensor, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute a part of the outputs, as `Kernel.part` does, with a part of the bank."""
        return self.mixed_part(x, route, inputs, outputs, pick_bias(self.bias, outputs))

    @classmethod
    def router(cls, in_channels: int, convs: Mapping[str, ConvShape], group: int = 4) -> nn.Module:  # type: ignore[override]
        """Return one router for the block."""
        return DyNetRouter(in_channels, group, convs)
