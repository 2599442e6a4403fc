"""The parts of their images that varied ones show, and where places, boxes and maps come to lie in them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class View:
    """The part of its image that each varied image shows: shifted, enlarged, or mirrored from left to right.

    What lies at a place (x, y) of a varied image lies at `scale * (x, y) + corner` of its image. Places are
    in pixels from the upper left corner, so that the first pixel has its middle at (0.5, 0.5).

    Attributes:
        scale: (B, 2) as x, y: pixels of the image for one of the varied image, x below 0 where mirrored.
        corner: (B, 2) as x, y: what of the image lies in the upper left corner.
        size: height and width of the images, and of the varied ones.
    """

    scale: Tensor
    corner: Tensor
    size: tuple[int, int]

    @classmethod
    def shifted(cls, down: Tensor, right: Tensor, mirrored: Tensor, size: tuple[int, int]) -> View:
        """Return the view of images that were moved by whole pixels and then mirrored.

        Args:
            down, right: pixels (B,), below 0 for up and left.
            mirrored: bool (B,).
            size: height and width.
        """
        sign = 1 - 2 * mirrored.float()
        across = mirrored * size[1] - right.float()
        return cls(
            torch.stack([sign, torch.ones_like(sign)], 1), torch.stack([across, -down.float()], 1), size
        )

    def places(self, found: Tensor) -> Tensor:
        """Return where places (x, y) of the images lie in the varied ones: (B, ..., 2) to (B, ..., 2)."""
        shape = (len(found), *[1] * (found.ndim - 2), 2)
        scale, corner = (each.to(found).view(shape) for each in (self.scale, self.corner))
        return (found - corner) / scale

    def boxes(self, found: Tensor) -> Tensor:
        """Return boxes x1, y1, x2, y2 of the images in the varied ones: (B, ..., 4) to (B, ..., 4)."""
        corners = self.places(found.unflatten(-1, (2, 2)))
        return torch.cat([corners.amin(-2), corners.amax(-2)], -1)

    def map(self, values: Tensor, outside: float) -> Tensor:
        """Return maps (B, H, W) as the varied images show them: each pixel has the value next to its middle.

        Args:
            values: of the pixels of the images.
            outside: the value of pixels that come in.
        """
        height, width = self.size
        columns, inside_columns = self._indices(width, 0, values.device)
        rows, inside_rows = self._indices(height, 1, values.device)
        index = rows[:, :, None] * width + columns[:, None]
        found = values.flatten(1).gather(1, index.flatten(1)).view_as(values)
        inside = inside_rows[:, :, None] & inside_columns[:, None]
        return torch.where(inside, found, torch.full_like(found, outside))

    def _indices(self, side: int, axis: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return which pixels along an axis are shown, and whether they are there: both (B, side)."""
        middles = torch.arange(side, device=device) + 0.5
        scale, corner = (each[:, axis, None].to(device) for each in (self.scale, self.corner))
        index = (scale * middles + corner).floor().long()
        return index.clamp(0, side - 1), (index >= 0) & (index < side)
