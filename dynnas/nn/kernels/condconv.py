"""CondConv: conditionally parameterised convolutions (Yang et al. 2019, arXiv:1904.04971)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context, Contextual
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import linear
from dynnas.space.knob import Knob, whole


class RoutingDropout(Contextual):
    """Dropout of a router's pooled input while training, at the rate of the `RouterMode`: 0 by default."""

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Drop values of (B, C) at random, and scale up the others."""
        mode = (context or self.context)[RouterMode]
        if not self.training or mode.dropout == 0:
            return x
        if mode.sample is None:
            return F.dropout(x, mode.dropout)
        return x * mode.sample(partial(_kept, mode.dropout), x)


def _kept(rate: float, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return what dropout multiplies with: 0, or 1 / (1 - rate)."""
    return F.dropout(like.new_ones(shape), rate)


class CondConvRouter(nn.Module):
    """Predicts sigmoid(FC(GAP(block input))): one coefficient per expert, for all convolutions of the block.

    One router per block is the form of the authors' EfficientNet code; the paper has one per layer.
    """

    def __init__(self, in_channels: int, experts: int, convs: Iterable[str]) -> None:
        """`convs` are the names of the block's convolutions."""
        super().__init__()
        self.convs = tuple(convs)
        self.dropout = RoutingDropout()
        self.fc = linear(in_channels, experts)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Map block input (B, C, H, W) to coefficients (B, M) for each convolution."""
        return dict.fromkeys(self.convs, torch.sigmoid(self.fc(self.dropout(x.mean((2, 3))))))


EXPERTS = Knob("experts", whole(1, 64), "kernels that are mixed", default=4)


@register_kernel("condconv")
class CondConv(Kernel):
    """Mixes a bank of experts for each image by sigmoid coefficients."""

    knobs = (EXPERTS,)
    capacity = 50
    paper = "Yang et al. 2019, arXiv:1904.04971"

    def __init__(self, shape: ConvShape, experts: int = 4) -> None:
        """Make a bank of `experts` kernels."""
        super().__init__(shape, experts)

    def part(self, x: Tensor, route: Tensor, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute a part of the outputs, as `Kernel.part` does, with a part of the bank."""
        return self.mixed_part(x, route, inputs, outputs, pick_bias(self.bias, outputs))

    @classmethod
    def router(cls, in_channels: int, convs: Mapping[str, ConvShape], experts: int = 4) -> nn.Module:  # type: ignore[override]
        """Return one router for the block."""
        return CondConvRouter(in_channels, experts, convs)
