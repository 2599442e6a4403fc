"""The geometry of one convolution: what a block asks of whatever kernel op runs there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

HALF_THE_KERNEL = -1
"""Padding by half of the kernel: stride 1 then keeps the size of the image, if the kernel is odd."""


@dataclass(frozen=True)
class ConvShape:
    """A square convolution.

    Attributes:
        in_channels: Ci. out_channels: Co. kernel: k, pixels along each side. stride: pixels.
        groups: as in `torch.nn.Conv2d`. dilation: pixels from one tap to the next.
        padding: pixels of zeros on each side; by default half of the kernel.
    """

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    dilation: int = 1
    padding: int = HALF_THE_KERNEL

    def __post_init__(self) -> None:
        if self.padding == HALF_THE_KERNEL:
            object.__setattr__(self, "padding", self.kernel // 2 * self.dilation)

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """The shape of one kernel: (Co, Ci / groups, k, k)."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)

    @property
    def depthwise(self) -> bool:
        """Return whether each channel is convolved by itself."""
        return self.groups == self.in_channels == self.out_channels and self.kernel * self.groups > 1

    @property
    def pointwise(self) -> bool:
        """Return whether this is a plain matrix product over the channels of each pixel."""
        return self.kernel == 1 and self.groups == 1 and self.padding == 0

    def size_after(self, length: int) -> int:
        """Return the height or width of the output, for that of the input."""
        return (length + (2 * self.padding - self.dilation * (self.kernel - 1) - 1)) // self.stride + 1


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, shape: ConvShape, groups: int | None = None
) -> Tensor:
    """Convolve `x` (B, Ci, H, W) by torch with this geometry; `groups` if they are not those of the shape."""
    return F.conv2d(x, weight, bias, shape.stride, shape.padding, shape.dilation, groups or shape.groups)


def pointwise(in_channels: int, out_channels: int) -> ConvShape:
    """Build a 1x1 convolution from `in_channels` to `out_channels`."""
    return ConvShape(in_channels, out_channels)


def depthwise(channels: int, kernel: int, stride: int) -> ConvShape:
    """Build a convolution of each of `channels` channels by itself."""
    return ConvShape(channels, channels, kernel, stride, groups=channels)
