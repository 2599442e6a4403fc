"""The geometry of one convolution: what a block asks of whatever kernel op runs there."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ConvShape:
    """A square convolution, padded by half its kernel, so that stride 1 keeps the size of the image."""

    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1

    @property
    def padding(self) -> int:
        """Pixels of zero padding on each side."""
        return self.kernel // 2

    @property
    def weight(self) -> tuple[int, int, int, int]:
        """The shape of one kernel: (Co, Ci / groups, k, k)."""
        return (self.out_channels, self.in_channels // self.groups, self.kernel, self.kernel)

    @property
    def depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return self.groups == self.in_channels == self.out_channels and self.kernel * self.groups > 1

    @property
    def pointwise(self) -> bool:
        """Whether this is a plain matrix product over the channels of each pixel."""
        return self.kernel == 1 and self.groups == 1


def pointwise(in_channels: int, out_channels: int) -> ConvShape:
    """A 1x1 convolution from `in_channels` to `out_channels`."""
    return ConvShape(in_channels, out_channels)


def depthwise(channels: int, kernel: int, stride: int) -> ConvShape:
    """A convolution of each of `channels` by itself."""
    return ConvShape(channels, channels, kernel, stride, groups=channels)
