"""The ordinary convolution: one kernel for all images."""

from __future__ import annotations

from torch import Tensor

from dynnas.nn.facts import LOCAL
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.channel_selection import Channels, pick_bias
from dynnas.nn.layers.conv_shape import convolve


@register_kernel("static")
class Static(Kernel):
    """A convolution with a single kernel (Co, Ci / groups, k, k)."""

    requires = ()
    provides = frozenset({LOCAL})
    capacity = 0
    input_dependent = False

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W); there is nothing to route."""
        shape = self.shape
        return convolve(x, self.weight, self.bias, shape)

    def part(self, x: Tensor, route: None, inputs: Channels | None, outputs: Channels | None) -> Tensor:
        """Compute a part of the outputs, as `Kernel.part` does, with a part of the kernel."""
        weight, shape = self.narrowed(self.weight, inputs, outputs)
        bias = pick_bias(self.bias, outputs)
        return convolve(x, weight, bias, shape)
