"""Resizing of images: as a function, and inside a network by matrix products, which every runtime can do."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Resize(nn.Module):
    """Resizes images as `resize` does: bilinear and antialiased.

    Attributes:
        resizes: whether anything changes.
    """

    def __init__(self, given: int | tuple[int, int], wanted: int | tuple[int, int]) -> None:
        """Resize from `given` to `wanted` pixels: height and width, or the side of a square."""
        super().__init__()
        pairs = list(zip(sides(given), sides(wanted), strict=True))
        # They follow from the config.
        self.register_buffer("weights", _shares(*pairs[0]), persistent=False)
        self.register_buffer("across", None if pairs[0] == pairs[1] else _shares(*pairs[1]), persistent=False)
        self.resizes = sides(given) != sides(wanted)

    weights: Tensor
    across: Tensor | None

    @property
    def rows(self) -> Tensor:
        """Return (wanted, given): the share of each given line of pixels in each wanted one."""
        return self.weights

    @property
    def columns(self) -> Tensor:
        """Return (wanted, given): the same of columns of pixels."""
        return self.weights if self.across is None else self.across

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) of the given size to those of the wanted one."""
        if not self.resizes:
            return x
        # Not by `weights.T`, which is the same memory: torch exports no branch that is handed both.
        columns = F.linear(x, self.columns)
        return F.linear(columns.transpose(2, 3), self.rows).transpose(2, 3)


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a size of images; a number is the side of a square."""
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _shares(given: int, wanted: int) -> Tensor:
    """Return (wanted, given): the share of each given line of pixels in each wanted one."""
    lines = F.interpolate(torch.eye(given)[None, None], (wanted, given), mode="bilinear", antialias=True)
    return lines[0, 0]


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize float `images` (B, C, H, W) to another `size`, bilinear and antialiased.

    Args:
        images: of any size.
        size: height and width, or the side of a square.
    """
    wanted = sides(size)
    if images.shape[-2:] == wanted:
        return images
    return F.interpolate(images, wanted, mode="bilinear", antialias=True)
