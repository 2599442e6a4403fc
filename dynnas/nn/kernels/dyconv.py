"""DY-CNN: dynamic convolution, attention over convolution kernels (Chen et al. 2020, arXiv:1912.03458)."""

from __future__ import annotations

from torch import Tensor, nn, ones, zeros
from torch.nn import functional as F

from dynnas.nn.dynamic_conv.mixing import mixed_conv
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick, spread
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import linear
from dynnas.space.config.network import BlockConfig


class DyConvRouter(nn.Module):
    """softmax(FC(ReLU(FC(GAP(layer input)))) / temperature), with Ci // 4 + 1 hidden units (section 3.2).

    A high temperature early in training lets all experts learn;
    `dynnas.nn.networks.modes.set_temperature` anneals it.
    """

    temperature: Tensor

    def __init__(self, in_channels: int, experts: int) -> None:
        """Temperature 1: that of a finished network."""
        super().__init__()
        hidden = in_channels // 4 + 1
        self.reduce = linear(in_channels, hidden)
        self.expand = linear(hidden, experts)
        self.register_buffer("temperature", ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """Layer input (B, Ci, H, W) to coefficients (B, M), which sum to one."""
        return F.softmax(self.expand(F.relu(self.reduce(x.mean((2, 3))))) / self.temperature, dim=1)


@register_kernel("dyconv")
class DyConv(Kernel):
    """A bank of experts, each with a bias, mixed per image by softmax attention over the layer's own input.

    The batch norm that follows takes away the mean of the mixed bias over images, but not its differences
    between them. As the coefficients sum to one, a shift folds into every expert's bias.
    """

    bank_field = "experts"

    def __init__(self, shape: ConvShape, config: BlockConfig) -> None:
        """A bank of `config.experts` kernels and biases, and the layer's router."""
        super().__init__(shape, config)
        experts = self.bank_size(config)
        self.dyconv_router = DyConvRouter(shape.in_channels, experts)
        self.dyconv_bias = nn.Parameter(zeros(experts, shape.out_channels))

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W) with the bank, mixed as the layer's own router says."""
        coefficients = self.dyconv_router(x)
        bias = coefficients @ self.dyconv_bias
        return mixed_conv(x, self.weight, coefficients, bias, self.shape, self.strategy)

    def part(self, x: Tensor, route: None, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """As `Kernel.part`: the router sees zeros for the channels that `x` lacks."""
        pooled = spread(x.mean((2, 3), keepdim=True), inputs, self.shape.in_channels)
        coefficients = self.dyconv_router(pooled)
        bias = coefficients @ pick(self.dyconv_bias, outputs)
        return self.mixed_part(x, coefficients, inputs, outputs, bias)

    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,)."""
        self.weight = nn.Parameter((self.weight * scale[:, None, None, None]).detach())
        self.dyconv_bias = nn.Parameter((self.dyconv_bias * scale + shift).detach())
