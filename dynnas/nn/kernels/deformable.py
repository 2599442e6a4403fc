"""Deformable convolution v2 (Zhu et al. 2019, arXiv:1811.11168, equation 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.dynamic_conv.unfold_conv import size_after, weigh_taps
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.nn.slicing import Rule, centre

MACS_A_SAMPLE = 5
"""Multiply-adds of a sample: four neighbours of its position, and the modulation."""

SLOWER = 0.1
"""Learning rate of offsets and modulation relative to the kernel's (section 3.2). Taps that have once left
the image see zeros and no gradient: at the kernel's own rate they never came back.
"""


class Offsets(nn.Module):
    """Predicts where each tap looks and how much it counts, by a convolution that starts at zero.

    The weight is (3, Ci, k, k, k, k): vertical and horizontal offset and the logit of the modulation; the
    input's channels; the tap; the window. All four kernel axes are elastic by their centre.
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-4, -3, -2, -1), "bias": centre(-2, -1)}

    def __init__(self, shape: ConvShape) -> None:
        """Build it for the taps of a convolution."""
        super().__init__()
        self.shape = shape
        size = (shape.kernel,) * 2
        self.weight = nn.Parameter(torch.zeros(3, shape.in_channels, *size, *size))
        self.bias = nn.Parameter(torch.zeros(3, 1, *size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, 3, k, k, H', W')."""
        weight, bias = self.weight.permute(0, 2, 3, 1, 4, 5).flatten(0, 2), self.bias.flatten()
        if self.training and weight.requires_grad:
            for own in (weight, bias):
                own.register_hook(lambda gradient: SLOWER * gradient)
        y = convolve(x, weight, bias, self.shape, groups=1)
        return y.unflatten(1, (3, self.shape.kernel, self.shape.kernel))


def sample(x: Tensor, down: Tensor, right: Tensor, shape: ConvShape) -> Tensor:
    """Sample `x` where the taps look: bilinear between four pixels, zero outside of the image.

    Args:
        x: (B, C, H, W).
        down: (B, k, k, H', W'), pixels from where a tap ordinarily looks.
        right: likewise.
        shape: the geometry of the convolution.

    Returns:
        (B, C, k * k, H' * W').
    """
    rows, columns, places_down, places_right = (
        torch.arange(size, dtype=down.dtype, device=down.device) for size in down.shape[1:]
    )
    rows, columns = (taps * shape.dilation - shape.padding for taps in (rows, columns))
    y = down + rows[:, None, None, None] + (places_down * shape.stride)[:, None]
    x_position = right + columns[:, None, None] + places_right * shape.stride
    # Positions as torch wants them: -1 and 1 are the outer edges of the first and last pixel.
    grid = torch.stack([(2 * x_position + 1) / x.shape[3] - 1, (2 * y + 1) / x.shape[2] - 1], dim=-1)
    found = F.grid_sample(x.to(grid.dtype), grid.flatten(1, 3), align_corners=False)
    return found.flatten(2).unflatten(2, (shape.kernel**2, -1)).to(x.dtype)


@register_kernel("deformable")
class Deformable(Kernel):
    """A single kernel whose taps look where the image says, each weighted between 0 and 1.

    Offsets and modulation come from the layer's input, the same for all channels. At the start the offsets
    are 0 and the modulation is 1/2 (section 3.2). A kernel of one tap has no shape to deform: pointwise
    convolutions are ordinary ones, as in the authors' networks.
    """

    capacity = 20
    paper = "Zhu et al. 2019, arXiv:1811.11168"

    def __init__(self, shape: ConvShape) -> None:
        """Make a kernel, and the module that moves its taps if it has more than one."""
        super().__init__(shape)
        self.deformable_offsets = Offsets(shape) if shape.kernel > 1 else None

    def forward(self, x: Tensor, route: Tensor | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        shape = self.shape
        if self.deformable_offsets is None:
            return convolve(x, self.weight, self.bias, shape)
        moves = self.deformable_offsets(x)
        # Positions need more digits than bfloat16 has.
        moves = moves.to(torch.promote_types(moves.dtype, torch.float32))
        down, right, modulation = moves.unbind(1)
        columns = sample(x, down, right, shape) * torch.sigmoid(modulation).flatten(1, 2).flatten(2)[:, None]
        y = weigh_taps(columns.to(x.dtype), self.weight, self.bias, shape.groups)
        return y.unflatten(2, moves.shape[4:])

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of sampling and modulation for `x` (B, Ci, H, W)."""
        if self.deformable_offsets is None:
            return 0
        height, width = size_after(x, self.shape)
        return MACS_A_SAMPLE * x.shape[0] * x.shape[1] * self.shape.kernel**2 * height * width
