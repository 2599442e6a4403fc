"""Spatial transformer: maps that are warped as the image asks (Jaderberg et al. 2015, arXiv:1506.02025)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.kernels.static import Static
from dynnas.nn.layers.conv_shape import pointwise
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.registry import Attention, register_attention

GRID = 4
"""Places along each side of what the warp is read off."""

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


@register_attention("stn")
class SpatialTransformer(Attention):
    """Computes y(p) = x(A (p, 1)): an affine warp, bilinear between pixels, with zeros outside of the maps.

    The six numbers of A are read off the maps: their means over 4 x 4 places, a 1x1 convolution to
    max(1, C // 16) channels with batch norm and ReLU, and a linear layer, which begins with the identity
    (section 3.1; what finds them is left open there). Places are numbered from -1 to 1 along each side
    (equation 1), and channels are warped alike (equations 3 and 5).
    """

    capacity = 28
    paper = "Jaderberg et al. 2015, arXiv:1506.02025"

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of `channels` channels."""
        super().__init__()
        hidden = max(1, channels // 16)
        self.reduce = ConvUnit(Static(pointwise(channels, hidden)), nn.ReLU())
        self.locate = nn.Linear(hidden * GRID**2, len(IDENTITY))
        nn.init.zeros_(self.locate.weight)
        with torch.no_grad():
            self.locate.bias.copy_(torch.tensor(IDENTITY))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        kind = torch.promote_types(x.dtype, torch.float32)  # a place needs more digits than bfloat16 has
        warp = self.locate(self.reduce(place_means(x)).flatten(1)).to(kind).unflatten(1, (2, 3))
        height, width = x.shape[2:]
        row, column = (
            (2 * torch.arange(side, dtype=kind, device=x.device) + 1) / side - 1 for side in (height, width)
        )
        ones = torch.ones((height, width), dtype=kind, device=x.device)
        places = torch.stack([column * ones, row[:, None] * ones, ones], dim=2).flatten(0, 1)
        grid = (places @ warp.transpose(1, 2)).unflatten(1, (height, width))
        return F.grid_sample(x.to(kind), grid, align_corners=False).to(x.dtype)

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of sampling (B, C, H, W): four for each value."""
        return 4 * x.numel()


def place_means(x: Tensor) -> Tensor:
    """Return means over 4 x 4 places, (B, C, 4, 4), of maps (B, C, H, W), as adaptive pooling has them.

    By matrix products, which every runtime can do for maps of any size.
    """
    down, across = (_shares(side, x) for side in x.shape[2:])
    return down @ x @ across.t()


def _shares(side: int, like: Tensor) -> Tensor:
    """Return what each of `side` pixels counts for each place, (4, side)."""
    pixels, places = torch.arange(side, device=like.device), torch.arange(GRID, device=like.device)[:, None]
    first = torch.div(places * side, GRID, rounding_mode="floor")
    end = torch.div((places + 1) * side + GRID - 1, GRID, rounding_mode="floor")
    inside = ((pixels >= first) & (pixels < end)).to(like.dtype)
    return inside / inside.sum(1, keepdim=True)
