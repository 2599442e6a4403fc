"""The fixed networks of the study: ENet as published, and a small UNet, as anyone would write them."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Initial(nn.Module):
    """A convolution of stride 2 beside a pooling of the image (ENet, figure 2a)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 13, 3, stride=2, padding=1, bias=False)
        self.norm, self.act = nn.BatchNorm2d(16), nn.PReLU(16)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 16, H / 2, W / 2)."""
        return self.act(self.norm(torch.cat([self.conv(x), F.max_pool2d(x, 2, ceil_mode=True)], 1)))


class Bottleneck(nn.Module):
    """A bottleneck of ENet (figure 2b): regular, dilated, asymmetric, or of stride 2."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        asymmetric: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        inner = in_channels // 4 if stride == 1 else max(in_channels // 4, out_channels // 8)
        first = stride if stride == 2 else 1
        self.down = stride == 2
        self.more = out_channels - in_channels
        middle: list[nn.Module]
        if asymmetric:
            middle = [
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            ]
        else:
            middle = [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, inner, first, stride=first, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            *middle,
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.Dropout2d(dropout),
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, H / stride, W / stride)."""
        aside = F.max_pool2d(x, 2) if self.down else x
        if self.more > 0:
            aside = F.pad(aside, (0, 0, 0, 0, 0, self.more))
        return self.act(aside + self.branch(x))


class Upsampling(nn.Module):
    """A bottleneck of ENet that doubles the size; a bilinear one in place of the paper's max unpooling."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        inner = in_channels // 4
        self.aside = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels)
        )
        self.branch = nn.Sequential(
            nn.Conv2d(in_channels, inner, 1, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, output_padding=1, bias=False),
            nn.BatchNorm2d(inner),
            nn.PReLU(inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        )
        self.act = nn.PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, Ci, H, W) to (B, Co, 2 H, 2 W)."""
        aside = F.interpolate(self.aside(x), scale_factor=2.0, mode="bilinear", align_corners=False)
        return self.act(aside + self.branch(x))


class ENet(nn.Module):
    """ENet (Paszke et al. 2016, arXiv:1606.02147, table 1): images whose sides are multiples of 8."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        context: list[nn.Module] = []
        for _ in range(2):
            context += [
                Bottleneck(128, 128),
                Bottleneck(128, 128, dilation=2),
                Bottleneck(128, 128, asymmetric=True),
                Bottleneck(128, 128, dilation=4),
                Bottleneck(128, 128),
                Bottleneck(128, 128, dilation=8),
                Bottleneck(128, 128, asymmetric=True),
                Bottleneck(128, 128, dilation=16),
            ]
        self.initial = Initial()
        self.encoder = nn.Sequential(
            Bottleneck(16, 64, stride=2, dropout=0.01),
            *(Bottleneck(64, 64, dropout=0.01) for _ in range(4)),
            Bottleneck(64, 128, stride=2),
            *context,
        )
        self.decoder = nn.Sequential(
            Upsampling(128, 64),
            Bottleneck(64, 64),
            Bottleneck(64, 64),
            Upsampling(64, 16),
            Bottleneck(16, 16),
            nn.ConvTranspose2d(16, classes, 2, stride=2),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, classes, H, W)."""
        return self.decoder(self.encoder(self.initial(x)))


class UNet(nn.Module):
    """A UNet (Ronneberger 2015, arXiv:1505.04597) with padding and batch norm, `width` channels at first."""

    def __init__(self, classes: int, width: int = 16) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(4)]
        self.down = nn.ModuleList(_pair(a, b) for a, b in zip([3, *widths], widths, strict=False))
        self.up = nn.ModuleList(_pair(a + b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, classes, H, W)."""
        maps = []
        for level, pair in enumerate(self.down):
            x = pair(F.max_pool2d(x, 2) if level else x)
            maps.append(x)
        for pair, finer in zip(reversed(self.up), maps[-2::-1], strict=True):
            x = pair(torch.cat([finer, F.interpolate(x, finer.shape[-2:], mode="nearest")], 1))
        return self.head(x)


def _pair(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
