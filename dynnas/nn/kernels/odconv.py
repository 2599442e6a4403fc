"""ODConv: omni-dimensional dynamic convolution (Li et al. 2022, arXiv:2209.07947)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context, Contextual
from dynnas.nn.dynamic_conv.mix_kernels import mix, unfolded_matmul
from dynnas.nn.dynamic_conv.mixing import convolve_each, mixed_conv
from dynnas.nn.dynamic_conv.mode import ConvMode, RouterMode
from dynnas.nn.kernels.condconv import EXPERTS
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.initial import initialise_linear, linear
from dynnas.nn.slicing import Rule, centre


class _Attentions(NamedTuple):
    inputs: Tensor
    outputs: Tensor | None
    taps: Tensor | None
    experts: Tensor


class TapAttention(nn.Module):
    """Predicts a logit for each tap; its weight is (hidden, k, k), so that a smaller kernel is its centre."""

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-2, -1), "bias": centre(-2, -1)}

    def __init__(self, hidden: int, kernel: int) -> None:
        """Build it for a kernel of `kernel` pixels along each side."""
        super().__init__()
        self.weight = nn.Parameter(torch.empty(hidden, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(kernel, kernel))
        initialise_linear(self.weight, self.bias)

    def forward(self, v: Tensor) -> Tensor:
        """Map (B, hidden) to (B, k, k)."""
        return (v @ self.weight.flatten(1)).unflatten(1, self.bias.shape) + self.bias


class ODConvRouter(Contextual):
    """Predicts the four attentions from v = ReLU(FC(GAP(layer input))) of max(16, Ci // 16) units.

    Those of input channels, output channels and taps are sigmoids, that of the experts is a softmax. They
    are shared by all experts, and divided by the temperature, as in the authors' code. A depthwise
    convolution has one attention for its channels, and a single tap or expert none.
    """

    def __init__(self, shape: ConvShape, experts: int) -> None:
        """Build it for a convolution with a bank of `experts` kernels."""
        super().__init__()
        hidden = max(16, shape.in_channels // 16)
        self.reduce = linear(shape.in_channels, hidden)
        self.inputs = linear(hidden, shape.in_channels)
        self.outputs = None if shape.depthwise else linear(hidden, shape.out_channels)
        self.taps = TapAttention(hidden, shape.kernel) if shape.kernel > 1 else None
        self.experts = linear(hidden, experts) if experts > 1 else None

    def forward(self, x: Tensor, *, context: Context | None = None) -> _Attentions:
        """Map layer input (B, Ci, H, W) to (B, Ci), (B, Co), (B, k, k) and (B, M)."""
        temperature = (context or self.context)[RouterMode].temperature
        v = F.relu(self.reduce(x.mean((2, 3))))
        logits = [
            None if part is None else part(v) / temperature
            for part in (self.inputs, self.outputs, self.taps, self.experts)
        ]
        inputs, outputs, taps = (None if each is None else torch.sigmoid(each) for each in logits[:3])
        assert inputs is not None
        experts = v.new_ones(v.shape[0], 1) if logits[3] is None else F.softmax(logits[3], dim=1)
        return _Attentions(inputs, outputs, taps, experts)


@register_kernel("odconv")
class ODConv(Kernel):
    """Weighs a bank of kernels along all four axes: expert, output channel, input channel and tap.

    W(x) = sum_m a_m (a_out a_in a_tap W_m) (equation 2). The attentions of channels are applied to the maps,
    which gives the same.
    """

    knobs = (EXPERTS,)
    capacity = 65
    paper = "Li et al. 2022, arXiv:2209.07947"

    def __init__(self, shape: ConvShape, experts: int = 4) -> None:
        """Make a bank of `experts` kernels, and the layer's router."""
        super().__init__(shape, experts)
        self.odconv_router = ODConvRouter(shape, experts)

    def forward(self, x: Tensor, route: Tensor | None = None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W) with the bank, weighed as the layer's own router says."""
        context = context or self.context
        shape, strategy = self.shape, context[ConvMode].strategy
        found = self.odconv_router(x, context=context)
        x = x * found.inputs[:, :, None, None]
        if found.taps is None:
            y = mixed_conv(x, self.weight, found.experts, None, shape, strategy, context.trace)
        else:
            kernels = mix(self.weight, found.experts, shape) * found.taps[:, None, None]
            if strategy == "auto":
                y = convolve_each(x, kernels, None, shape, context.trace)
            else:  # attentions of taps leave no bank to convolve with first
                y = unfolded_matmul(x, kernels, None, shape)
        if found.outputs is not None:
            y = y * found.outputs[:, :, None, None]
        return y if self.bias is None else y + self.bias[:, None, None]
