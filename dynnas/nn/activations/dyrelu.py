"""Dynamic ReLU (Chen et al. 2020, arXiv:2003.10027): the largest of two lines, which depend on the image.

y = max(a1 * x + b1, a2 * x + b2), with (a1, a2, b1, b2) = (1, 0, 0, 0) + (1, 1, .5, .5) * theta and theta =
2 * sigmoid(FC(ReLU(FC(GAP(x))))) - 1; the first layer has a quarter of the channels (sections 3.2, 3.3). With
weights near zero it starts as ReLU.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.layers.initial import initialise_linear, linear
from dynnas.nn.registry import Activation, register_activation

PIECES = 2
INTERCEPT_RANGE = 0.5


class _DynamicReLU(Activation):
    """A dynamic ReLU that applies the lines which a variant's `expand` predicts."""

    input_dependent = True
    paper = "Chen et al. 2020, arXiv:2003.10027"

    def __init__(self, channels: int, expand: nn.Module, hidden: int) -> None:
        """`expand` maps (B, hidden) to logits (B, 4, 1 or C) of a1, a2, b1 and b2."""
        super().__init__()
        self.reduce = linear(channels, hidden)
        self.expand = expand

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        theta = 2 * torch.sigmoid(self.expand(F.relu(self.reduce(x.mean((2, 3)))))) - 1
        a1, a2, b1, b2 = theta[..., None, None].unbind(1)
        return torch.maximum((1 + a1) * x + INTERCEPT_RANGE * b1, a2 * x + INTERCEPT_RANGE * b2)

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of the lines: one for each value and line."""
        return PIECES * x.numel()


class _OfAllChannels(nn.Module):
    """A layer that predicts the logits of one set of lines for all channels."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.fc = linear(hidden, 2 * PIECES)

    def forward(self, v: Tensor) -> Tensor:
        """Map (B, hidden) to (B, 4, 1)."""
        return self.fc(v).unsqueeze(2)


class _OfEachChannel(nn.Module):
    """A layer that predicts the lines of each channel.

    Its weight is (4, C, hidden), so fewer channels are its leading part.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(2 * PIECES, channels, hidden))
        self.bias = nn.Parameter(torch.empty(2 * PIECES, channels))
        initialise_linear(self.weight, self.bias)

    def forward(self, v: Tensor) -> Tensor:
        """Map (B, hidden) to (B, 4, C)."""
        return F.linear(v, self.weight.flatten(0, 1), self.bias.flatten()).unflatten(1, self.bias.shape)


@register_activation("dyrelu_a")
class DyReLUA(_DynamicReLU):
    """Dynamic ReLU, variant A: all channels share their lines."""

    capacity = 50

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        hidden = max(1, channels // 4)
        super().__init__(channels, _OfAllChannels(hidden), hidden)


@register_activation("dyrelu_b")
class DyReLUB(_DynamicReLU):
    """Dynamic ReLU, variant B: every channel has lines of its own."""

    capacity = 60

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        hidden = max(1, channels // 4)
        super().__init__(channels, _OfEachChannel(channels, hidden), hidden)
