"""Upsampling by kernels that are made of what is upsampled: CARAFE (Wang et al. 2019, arXiv:1905.02188)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ENCODER_SPREAD = 0.001
"""Initial standard deviation of the encoder's weights, as in the authors' code: it begins as a mean."""


class Carafe(nn.Module):
    """Enlarges maps by a kernel for each new pixel, the same for all channels, whose weights sum to 1.

    A 1x1 convolution to `hidden` channels and one of `encoder` x `encoder` say scale^2 kernels of `kernel` x
    `kernel` weights for each old pixel, a softmax normalises them, and each new pixel is the weighted sum of
    the old ones around the one that it lies in, with zeros outside (equations 1 to 4). Without the first
    convolution (`hidden=None`) these are the dynamic upsampling filters of Jo et al. 2018 (CVPR, section
    3.2), whose kernels are made of all channels by whatever stands before.

    A supernet shares its channels; kernels of other sizes have weights of their own.

    Args:
        channels: C of the maps. scale: how many times as large they become along each side.
        kernel: k_up, an odd number. encoder: k_encoder, an odd number.
        hidden: C_m, or None for no first convolution.

    Raises:
        ValueError: a size is even, or a number is below 1.
    """

    def __init__(
        self, channels: int, scale: int = 2, *, kernel: int = 5, encoder: int = 3, hidden: int | None = 64
    ) -> None:
        super().__init__()
        read = channels if hidden is None else hidden
        if min(channels, scale, kernel, encoder, read) < 1 or not kernel % 2 or not encoder % 2:
            raise ValueError(
                f"Carafe: scale {scale}, kernel {kernel}, encoder {encoder}, hidden {hidden}; allowed: "
                "numbers from 1 on, odd ones for kernel and encoder"
            )
        self.scale, self.kernel = scale, kernel
        self.compress = nn.Identity() if hidden is None else nn.Conv2d(channels, hidden, 1)
        kernels = nn.Conv2d(read, scale**2 * kernel**2, encoder, padding=encoder // 2)
        nn.init.normal_(kernels.weight, std=ENCODER_SPREAD)
        nn.init.zeros_(kernels.bias)  # type: ignore[arg-type]  # it has a bias
        self.encode = nn.ModuleDict({f"{scale}x{kernel}by{encoder}": kernels})

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, scale * H, scale * W)."""
        batch, channels, height, width = x.shape
        (encode,) = self.encode.values()
        weights = encode(self.compress(x)).reshape(batch, self.kernel**2, self.scale**2, height * width)
        weights = weights.softmax(1).permute(0, 3, 2, 1)
        around = F.unfold(x, self.kernel, padding=self.kernel // 2)
        around = around.reshape(batch, channels, self.kernel**2, height * width).permute(0, 3, 2, 1)
        y = torch.matmul(weights, around).permute(0, 3, 2, 1)  # (B, C, scale^2, H W)
        return F.pixel_shuffle(y.reshape(batch, channels * self.scale**2, height, width), self.scale)
