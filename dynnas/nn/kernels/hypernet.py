"""HyperNetworks: kernels generated from an embedding of the layer (Ha et al. 2016, arXiv:1609.09106)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dynnas.nn.facts import LOCAL
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.nn.layers.initial import kernel_spread
from dynnas.nn.slicing import Rule, centre

EMBEDDING = 64


class KernelGenerator(nn.Module):
    """Generates K[:, i] = W_out a_i + b_out with a_i = W_i z + b_i for each input channel i (section 3.1.1).

    z is the layer's embedding of 64, and so is a_i. W_i are (Ci / groups, 64, 64), W_out is (Co, 64, k, k):
    fewer channels are a leading part, a smaller kernel is the centre. Kernels start as initialised ones do.
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"outer_*": centre(-2, -1)}

    def __init__(self, shape: ConvShape) -> None:
        """Build it for the kernel of one convolution."""
        super().__init__()
        out_channels, in_channels, *size = shape.weight
        self.embedding = nn.Parameter(torch.randn(EMBEDDING))
        self.inner_weight = nn.Parameter(torch.empty(in_channels, EMBEDDING, EMBEDDING))
        self.inner_bias = nn.Parameter(torch.zeros(in_channels, EMBEDDING))
        self.outer_weight = nn.Parameter(torch.empty(out_channels, EMBEDDING, *size))
        self.outer_bias = nn.Parameter(torch.zeros(out_channels, 1, *size))
        nn.init.normal_(self.inner_weight, std=EMBEDDING**-0.5)
        nn.init.normal_(self.outer_weight, std=EMBEDDING**-0.5 * kernel_spread(shape.weight))

    def forward(self) -> Tensor:
        """Return the kernel (Co, Ci / groups, k, k)."""
        inner = self.inner_weight @ self.embedding + self.inner_bias
        kernel = inner @ self.outer_weight.flatten(2)
        return kernel.unflatten(2, self.outer_weight.shape[2:]) + self.outer_bias


@register_kernel("hypernet")
class HyperNet(Kernel):
    """An ordinary convolution whose kernel is generated, the same for all images.

    Once settled it is the kernel alone: finished, it costs what a static convolution does. Every convolution
    has a generator of its own: the paper's, shared by all layers, saves parameters, which a finished network
    here has no use for; and slots of a supernet share nothing.
    """

    capacity = 10
    paper = "Ha et al. 2016, arXiv:1609.09106"
    provides = frozenset({LOCAL})
    input_dependent = False

    hypernet: KernelGenerator | None

    def __init__(self, shape: ConvShape) -> None:
        """Make a generator, and no weight of its own."""
        super().__init__(shape)
        self.hypernet = KernelGenerator(shape)

    def new_weight(self, bank: int | None) -> None:
        """Return None, because the kernel is generated."""

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        shape = self.shape
        weight = self.weight if self.hypernet is None else self.hypernet()
        return convolve(x, weight, self.bias, shape)

    def part(self, x: Tensor, route: None, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute a part of the outputs, as `Kernel.part` does, with a part of the kernel."""
        whole = self.weight if self.hypernet is None else self.hypernet()
        weight, shape = self.narrowed(whole, inputs, outputs)
        bias = pick_bias(self.bias, outputs)
        return convolve(x, weight, bias, shape)

    @torch.no_grad()
    def settle(self) -> None:
        """Generate the kernel for good."""
        if self.hypernet is not None:
            self.weight = nn.Parameter(self.hypernet().contiguous())
            self.hypernet = None
