"""Dynamic filter networks: a filter generated for each image (Jia et al. 2016, arXiv:1605.09673)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mixing import convolve_each
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.dynamic_conv.unfold_conv import size_after, taps
from dynnas.nn.facts import DEPTHWISE, Requirement
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.nn.layers.initial import linear
from dynnas.nn.slicing import Rule, centre


class FilterGenerator(nn.Module):
    """Predicts FC(ReLU(FC(GAP(layer input)))): a k x k filter for each channel.

    It has max(1, C // 4) hidden units.

    The last weight is (C, hidden, k, k), so that a smaller kernel is its centre. It has no bias: that is the
    convolution's own kernel.
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-2, -1)}

    def __init__(self, channels: int, kernel: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        hidden = max(1, channels // 4)
        self.reduce = linear(channels, hidden)
        self.weight = nn.Parameter(torch.empty(channels, hidden, kernel, kernel))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Map layer input (B, C, H, W) to filters (B, C, 1, k, k)."""
        hidden = F.relu(self.reduce(x.mean((2, 3))))
        weight = self.weight.flatten(2).transpose(1, 2)
        filters = F.linear(hidden, weight.flatten(0, 1))
        return filters.view(-1, weight.shape[0], 1, *self.weight.shape[2:])


@register_kernel("dfn")
class DynamicFilter(Kernel):
    """Generates depthwise filters for each image: the paper's dynamic convolution, one filter a channel.

    The generator is a pooled, two-layer one. Convolutions that are not depthwise stay ordinary: a generator
    of all their weights would be as wide as the weights themselves times its hidden units. The language
    refuses blocks that have no depthwise convolution.
    """

    capacity = 40
    paper = "Jia et al. 2016, arXiv:1605.09673"
    requires = (
        *Kernel.requires,
        Requirement(
            ("block",),
            DEPTHWISE,
            "it generates depthwise filters, and the block has no depthwise convolution",
        ),
    )

    def __init__(self, shape: ConvShape) -> None:
        """Make a kernel and, if it is depthwise, the generator of what each image adds to it."""
        super().__init__(shape)
        self.dfn_filters = FilterGenerator(shape.in_channels, shape.kernel) if shape.depthwise else None

    def forward(self, x: Tensor, route: Tensor | None = None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, C, H, W)."""
        context = context or self.context
        shape = self.shape
        if self.dfn_filters is None:
            return convolve(x, self.weight, self.bias, shape)
        kernels = self.weight + self.dfn_filters(x)
        if context[ConvMode].strategy == "auto":
            return convolve_each(x, kernels, self.bias, shape, context.trace)
        # There is no bank to convolve with first; tap by tap, a graph can have a free batch axis.
        y = (kernels.flatten(3) @ taps(x, shape)).flatten(1, 2).unflatten(2, size_after(x, shape))
        return y if self.bias is None else y + self.bias[:, None, None]

    @torch.no_grad()
    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,)."""
        super().absorb(scale, shift)
        if self.dfn_filters is not None:
            self.dfn_filters.weight.mul_(scale[:, None, None, None])
