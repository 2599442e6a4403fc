"""DyNet: dynamic convolution with coefficients per output channel (Zhang et al. 2020, arXiv:2004.10694)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.ops.conv_shape import ConvShape
from dynnas.ops.initial import initialise_linear
from dynnas.ops.kernel import Kernel, bank_size
from dynnas.ops.registry import register_kernel
from dynnas.space.network import BlockConfig


class ChannelCoefficients(nn.Module):
    """sigmoid(FC(v)): coefficients for every expert and output channel of one convolution.

    The weight is (M, Co, C), so that fewer experts or channels are a leading part of it.
    """

    def __init__(self, in_channels: int, experts: int, out_channels: int) -> None:
        """From vectors of `in_channels`."""
        super().__init__()
        self.size = (experts, out_channels)
        self.weight = nn.Parameter(torch.empty(experts, out_channels, in_channels))
        self.bias = nn.Parameter(torch.empty(experts, out_channels))
        initialise_linear(self.weight, self.bias)

    def forward(self, v: Tensor) -> Tensor:
        """(B, C) to (B, M, Co)."""
        logits = F.linear(v, self.weight.flatten(0, 1), self.bias.flatten())
        return torch.sigmoid(logits).unflatten(1, self.size)


class DyNetRouter(nn.Module):
    """The coefficients of all of a block's convolutions, predicted from its pooled input (section 3.2)."""

    def __init__(self, config: BlockConfig, convs: Mapping[str, ConvShape]) -> None:
        """`convs` are the block's convolutions."""
        super().__init__()
        group = bank_size(config)
        self.convs = nn.ModuleDict(
            {
                name: ChannelCoefficients(config.in_channels, group, shape.out_channels)
                for name, shape in convs.items()
            }
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Block input (B, C, H, W) to coefficients (B, M, Co) for each convolution."""
        pooled = x.mean((2, 3))
        return {name: coefficients(pooled) for name, coefficients in self.convs.items()}


@register_kernel("dynet")
class DyNet(Kernel):
    """A bank of `group` kernels per output channel, mixed per image and channel by sigmoid coefficients."""

    @classmethod
    def router(cls, config: BlockConfig, convs: Mapping[str, ConvShape]) -> nn.Module:
        """One router for the block."""
        return DyNetRouter(config, convs)
