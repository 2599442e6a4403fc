"""CondConv: conditionally parameterised convolutions (Yang et al. 2019, arXiv:1904.04971)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import linear
from dynnas.space.config.network import BlockConfig


class RoutingDropout(nn.Dropout):
    """Dropout of a router's pooled input while training: none, unless `set_routing_dropout` asks for it."""

    def __init__(self) -> None:
        """Rate 0, which draws no random numbers."""
        super().__init__(0.0)


class CondConvRouter(nn.Module):
    """sigmoid(FC(GAP(block input))): one coefficient per expert, the same for all convolutions of the block.

    One router per block is the form of the authors' EfficientNet code; the paper has one per layer.
    """

    def __init__(self, in_channels: int, experts: int, convs: Iterable[str]) -> None:
        """`convs` are the names of the block's convolutions."""
        super().__init__()
        self.convs = tuple(convs)
        self.dropout = RoutingDropout()
        self.fc = linear(in_channels, experts)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Block input (B, C, H, W) to coefficients (B, M) for each convolution."""
        return dict.fromkeys(self.convs, torch.sigmoid(self.fc(self.dropout(x.mean((2, 3))))))


@register_kernel("condconv")
class CondConv(Kernel):
    """A bank of experts mixed per image by sigmoid coefficients."""

    bank_field = "experts"

    def part(self, x: Tensor, route: Tensor, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """As `Kernel.part`, with a part of the bank."""
        return self.mixed_part(x, route, inputs, outputs, pick_bias(self.bias, outputs))

    @classmethod
    def router(cls, config: BlockConfig, convs: Mapping[str, ConvShape]) -> nn.Module:
        """One router for the block."""
        return CondConvRouter(config.in_channels, cls.bank_size(config), convs)
