"""The ordinary convolution: one kernel for all images."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from dynnas.ops.kernel import Kernel
from dynnas.ops.registry import register_kernel


@register_kernel("static")
class Static(Kernel):
    """A convolution with a single kernel (Co, Ci / groups, k, k)."""

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W); there is nothing to route."""
        shape = self.shape
        return F.conv2d(x, self.weight, self.bias, shape.stride, shape.padding, groups=shape.groups)
