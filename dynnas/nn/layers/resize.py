"""Resizing of images: as a function, and inside a network by matrix products, which every runtime can do."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Resize(nn.Module):
    """Resizes square images as `resize` does: bilinear and antialiased."""

    weights: Tensor

    def __init__(self, given: int, wanted: int) -> None:
        """Resize from `given` to `wanted` pixels along each side."""
        super().__init__()
        lines = F.interpolate(torch.eye(given)[None, None], (wanted, given), mode="bilinear", antialias=True)
        # (wanted, given): of each given line of pixels in each wanted one. It follows from the config.
        self.register_buffer("weights", lines[0, 0], persistent=False)
        self.resizes = given != wanted

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, given, given) to (B, C, wanted, wanted)."""
        if not self.resizes:
            return x
        # Not by `weights.T`, which is the same memory: torch exports no branch that is handed both.
        columns = F.linear(x, self.weights)
        return F.linear(columns.transpose(2, 3), self.weights).transpose(2, 3)


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Resize float `images` (B, C, H, W) to another `size`, bilinear and antialiased.

    Args:
        images: of any size.
        size: height and width, or the side of a square.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if images.shape[-2:] == (height, width):
        return images
    return F.interpolate(images, (height, width), mode="bilinear", antialias=True)
