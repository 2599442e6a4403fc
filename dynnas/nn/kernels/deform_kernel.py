"""Deformable kernels: an image moves the taps in the kernel's space (Gao et al. 2020, arXiv:1910.02940)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mix_kernels import unfolded_matmul
from dynnas.nn.dynamic_conv.mixing import convolve_each
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.kernels.kernel import Kernel, register_kernel
from dynnas.nn.layers.conv_shape import ConvShape, convolve
from dynnas.nn.layers.initial import kernel_spread
from dynnas.nn.slicing import Rule, centre
from dynnas.space.knob import Knob, whole


class KernelOffsets(nn.Module):
    """Predicts from GAP(x) how far each tap moves down and right in the kernel's space; it starts at 0.

    The weight is (2, Ci, k, k), so that a smaller kernel is its centre.
    """

    elastic: ClassVar[Mapping[str, Rule]] = {"weight": centre(-2, -1), "bias": centre(-2, -1)}

    def __init__(self, shape: ConvShape) -> None:
        """Build it for the taps of a convolution."""
        super().__init__()
        size = (shape.kernel, shape.kernel)
        self.weight = nn.Parameter(torch.zeros(2, shape.in_channels, *size))
        self.bias = nn.Parameter(torch.zeros(2, *size))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, 2, k * k), in taps."""
        weight = self.weight.transpose(0, 1).flatten(1)
        return (x.mean((2, 3)) @ weight + self.bias.flatten()).unflatten(1, (2, -1))


def between(positions: Tensor, size: int) -> Tensor:
    """Return how much each of `size` points counts at positions (...) among them: (..., size).

    A position between two points takes of both, as in bilinear interpolation.
    """
    below = positions.floor()
    part = (positions - below)[..., None]
    points = torch.arange(size, dtype=positions.dtype, device=positions.device)
    here, after = ((points == each[..., None]).to(positions.dtype) for each in (below, below + 1))
    return here * (1 - part) + after * part


@register_kernel("deform_kernel")
class DeformKernel(Kernel):
    """Samples each image's kernel from a larger one, where the image says: the receptive field adapts.

    The paper's global form: W(x)_t = S(t + dt(x)) with dt = FC(GAP(x)) and S a grid of (k + 2 margin)**2
    weights, between whose points it interpolates; positions outside are moved to the border (section 3.2).
    At the start the taps are the grid's centre. The form with offsets for each place (local) is left out: it
    samples a kernel for every pixel, which no runtime has an operator for. A kernel of one tap is ordinary.
    """

    knobs = (
        Knob(
            "margin",
            whole(1, 8),
            "points by which the kernel's space is larger than the kernel, on each side",
            default=1,
        ),
    )
    capacity = 22
    paper = "Gao et al. 2020, arXiv:1910.02940"

    def __init__(self, shape: ConvShape, margin: int = 1) -> None:
        """Make the kernel's space, and what moves the taps in it if there is more than one."""
        super().__init__(shape)
        self.margin = margin if shape.kernel > 1 else 0
        self.deform_kernel_offsets = KernelOffsets(shape) if shape.kernel > 1 else None
        space = shape.kernel + 2 * self.margin
        self.weight = nn.Parameter(torch.empty(*shape.weight[:2], space, space))
        nn.init.normal_(self.weight, std=kernel_spread(shape.weight))

    def new_weight(self, bank: int | None) -> None:
        """Return None: the kernel's space is made when its size is known."""

    def forward(self, x: Tensor, route: Tensor | None = None, *, context: Context | None = None) -> Tensor:
        """Convolve `x` (B, Ci, H, W)."""
        context = context or self.context
        if self.deform_kernel_offsets is None:
            return convolve(x, self.weight, self.bias, self.shape)
        kernels = self.sampled(self.deform_kernel_offsets(x))
        if context[ConvMode].strategy == "auto":
            return convolve_each(x, kernels, self.bias, self.shape, context.trace)
        return unfolded_matmul(x, kernels, self.bias, self.shape)

    def sampled(self, offsets: Tensor) -> Tensor:
        """Return the kernels (B, Co, Ci / groups, k, k) for offsets (B, 2, k * k)."""
        kernel, space = self.shape.kernel, self.weight.shape[-1]
        line = self.margin + torch.arange(kernel, dtype=offsets.dtype, device=offsets.device)
        grid = torch.stack([line.repeat_interleave(kernel), line.repeat(kernel)])
        down, right = between((grid + offsets).clamp(0, space - 1), space).unbind(1)
        shares = (down[..., :, None] * right[..., None, :]).flatten(2)
        return (self.weight.flatten(2).flatten(0, 1) @ shares.transpose(1, 2)).view(-1, *self.shape.weight)
