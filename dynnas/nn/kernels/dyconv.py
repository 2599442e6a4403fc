"""DY-CNN: dynamic convolution, attention over convolution kernels (Chen et al. 2020, arXiv:1912.03458)."""

from __future__ import annotations

from torch import Tensor, nn, zeros
from torch.nn import functional as F

from dynnas.nn.context import Context, Contextual
from dynnas.nn.dynamic_conv.mixing import mixed_conv
from dynnas.nn.dynamic_conv.mode import ConvMode, RouterMode
from dynnas.nn.kernels.condconv import EXPERTS
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick, spread
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import linear


class DyConvRouter(Contextual):
    """Predicts softmax(FC(ReLU(FC(GAP(layer input)))) / temperature) (section 3.2).

    It has Ci // 4 + 1 hidden units.

    A high temperature early in training lets all experts learn: see `RouterMode`.
    """

    def __init__(self, in_channels: int, experts: int) -> None:
        """Build for `experts` coefficients."""
        super().__init__()
        hidden = in_channels // 4 + 1
        self.reduce = linear(in_channels, hidden)
        self.expand = linear(hidden, experts)

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor:
        """Map layer input (B, Ci, H, W) to coefficients (B, M), which sum to one."""
        logits = self.expand(F.relu(self.reduce(x.mean((2, 3)))))
        temperature = (context or self.context)[RouterMode].temperature
        return F.softmax(logits if temperature == 1 else logits / temperature, dim=1)


@register_kernel("dyconv")
class DyConv(Kernel):
    """Mixes a bank of experts and biases for each image by softmax attention over the layer's input.

    The batch norm that follows takes away the mean of the mixed bias over images, but not its differences
    between them. As the coefficients sum to one, a shift folds into every expert's bias.
    """

    knobs = (EXPERTS,)
    capacity = 60
    paper = "Chen et al. 2020, arXiv:1912.03458"

    def __init__(self, shape: ConvShape, experts: int = 4) -> None:
        """Make a bank of `experts` kernels and biases, and the layer's router."""
        super().__init__(shape, experts)
        self.dyconv_router = DyConvRouter(shape.in_channels, experts)
        self.dyconv_bias = nn.Parameter(zeros(experts, shape.out_channels))

    def forward(self, x: Tensor, route: Tensor | None = None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W) with the bank, mixed as the layer's own router says."""
        context = context or self.context
        coefficients = self.dyconv_router(x, context=context)
        bias = coefficients @ self.dyconv_bias
        strategy = context[ConvMode].strategy
        return mixed_conv(x, self.weight, coefficients, bias, self.shape, strategy, context.trace)

    def part(self, x: Tensor, route: None, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute a part of the outputs, as `Kernel.part`.

        The router sees zeros for the channels that `x` lacks.
        """
        pooled = spread(x.mean((2, 3), keepdim=True), inputs, self.shape.in_channels)
        coefficients = self.dyconv_router(pooled)
        bias = coefficients @ pick(self.dyconv_bias, outputs)
        return self.mixed_part(x, coefficients, inputs, outputs, bias)

    def add_bias(self) -> None:
        """Add nothing: every expert has a bias."""

    def absorb(self, scale: Tensor, shift: Tensor) -> None:
        """Take over a following `y * scale + shift` (Co,)."""
        self.weight = nn.Parameter((self.weight * scale[:, None, None, None]).detach())
        self.dyconv_bias = nn.Parameter((self.dyconv_bias * scale + shift).detach())
