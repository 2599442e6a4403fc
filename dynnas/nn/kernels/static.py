"""The ordinary convolution: one kernel for all images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias


@register_kernel("static")
class Static(Kernel):
    """A convolution with a single kernel (Co, Ci / groups, k, k)."""

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W); there is nothing to route."""
        shape = self.shape
        return F.conv2d(x, self.weight, self.bias, shape.stride, shape.padding, groups=shape.groups)

    def part(self, x: Tensor, route: None, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """As `Kernel.part`, with a part of the kernel."""
        weight, shape = self.narrowed(self.weight, inputs, outputs)
        bias = pick_bias(self.bias, outputs)
        return F.conv2d(x, weight, bias, shape.stride, shape.padding, groups=shape.groups)
