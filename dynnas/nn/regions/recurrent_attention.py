"""Recurrent attention: a look at the image, then at parts of it (RA-CNN: Fu et al. 2017, CVPR)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.context import Context
from dynnas.nn.exits.early_exits import EarlyExits

SHARPNESS = 10.0
"""The steepness k of a region's border for each pixel, as in the authors' code."""

LEAST = 1 / 3
"""Smallest side of a region, as a share of the image's."""


class AttentionCrop(nn.Module):
    """Cuts the square region out of an image that its features point at, and enlarges it.

    With h(d) = 1 / (1 + exp(-k d)) each pixel counts

        M(x, y) = [h(x - x_left) - h(x - x_right)] [h(y - y_top) - h(y - y_bottom)]

    (equations 5 and 6), which is nearly 1 inside of the region and 0 outside, and lets the region learn by
    what lies at its border; then bilinear interpolation enlarges the region (equation 7). As there, gradients
    reach the three numbers of a region through M alone. Both are computed for the pixels of the result, so
    that nothing else of the image is read. A linear layer and sigmoids say the side and where the region
    lies; here it lies inside of the image by construction, where the paper moves it back.

    Args:
        features: numbers that the region is read off.
        size: height and width of the result.
        least: smallest side of a region, as a share of the image's.

    Raises:
        ValueError: the smallest side is not above 0 and at most 1.
    """

    def __init__(self, features: int, size: tuple[int, int], least: float = LEAST) -> None:
        super().__init__()
        if not 0 < least <= 1:
            raise ValueError(f"AttentionCrop: least is {least}; allowed: above 0, at most 1")
        self.size, self.least = size, least
        self.locate = nn.Linear(features, 3)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        """Map images (B, C, H, W) and their features (B, F) to (B, C, height, width)."""
        region = self.regions(features)
        height, width = self.size
        y, inside_y = self._along(region[:, 0], region[:, 2], height, x.shape[2])
        x_place, inside_x = self._along(region[:, 1], region[:, 2], width, x.shape[3])
        grid = torch.stack(
            [x_place[:, None].expand(-1, height, -1), y[:, :, None].expand(-1, -1, width)], dim=3
        )
        found = F.grid_sample(x.to(grid.dtype), grid, padding_mode="border", align_corners=False)
        return (found * (inside_y[:, :, None] * inside_x[:, None])[:, None]).to(x.dtype)

    def unseen_macs(self, x: Tensor) -> int:
        """Return the multiply-adds of sampling images (B, C, H, W): four for each value of the result."""
        return 4 * x.shape[0] * x.shape[1] * self.size[0] * self.size[1]

    def regions(self, features: Tensor) -> Tensor:
        """Map (B, F) to top, left and side of regions, as shares of the image: (B, 3), at least float32."""
        said = torch.sigmoid(self.locate(features)).to(torch.promote_types(features.dtype, torch.float32))
        side = self.least + (1 - self.least) * said[:, 2:]
        return torch.cat([(1 - side) * said[:, :2], side], dim=1)

    def _along(self, start: Tensor, side: Tensor, count: int, pixels: int) -> tuple[Tensor, Tensor]:
        """Return where the pixels of the result lie along an axis, from -1 to 1, and what they count.

        Args:
            start, side: of the regions, (B,). count: pixels of the result. pixels: of the image.
        """
        steps = (torch.arange(count, dtype=start.dtype, device=start.device) + 0.5) / count
        places = (start[:, None] + side[:, None] * steps).detach()
        first, last = (SHARPNESS * pixels * (places - edge[:, None]) for edge in (start, start + side))
        return 2 * places - 1, torch.sigmoid(first) - torch.sigmoid(last)


class RecurrentAttention(EarlyExits):
    """Networks that look at an image, then at a region of it, then at a region of that, until one is sure.

    An image leaves at the first network that is sure enough, and the regions behind are not cut out. Networks
    may differ, and the later ones see smaller images if `size` says so. `exit_ranking` in training asks each
    look to be better than the one before it, which is how the paper's regions learn; `early_exits` gives each
    its loss.

    Args:
        networks: each from images (B, C, H, W) to features (B, F).
        features: F of each network.
        outputs: numbers for each image, such as classes.
        shape: (C, H, W) of the images.
        size: height and width of what the later networks see; by default those of the image.
        least: smallest side of a region, as a share of the image that it is cut out of.
        threshold: how sure a network must be, as in `EarlyExits`.

    Raises:
        ValueError: the numbers of networks and features differ, or a number is not allowed.
    """

    def __init__(
        self,
        networks: Iterable[nn.Module],
        features: Sequence[int],
        outputs: int,
        shape: tuple[int, int, int],
        *,
        size: tuple[int, int] | None = None,
        least: float = LEAST,
        threshold: float = 0.8,
    ) -> None:
        found = list(networks)
        if len(found) != len(features):
            raise ValueError(f"RecurrentAttention: {len(found)} networks, features of {len(features)}")
        channels, height, width = shape
        size = size or (height, width)
        seen = (channels, *size)
        looks = []
        for number, network in enumerate(found):
            crop = AttentionCrop(features[number - 1], size, least) if number else None
            looks.append(_Look(network, shape if number < 2 else seen, crop))
        heads = [_Head(count, outputs) for count in features]
        super().__init__(looks, heads, threshold=threshold)

    def forward(self, x: Tensor, *, context: Context | None = None) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, C, H, W) to outputs as `EarlyExits` does."""
        return super().forward(x.flatten(1), context=context)


class _Look(nn.Module):
    """A network on an image, or on a region that the features of an earlier look point at.

    Images and features are packed into rows, which early exits choose from.
    """

    def __init__(self, network: nn.Module, shape: tuple[int, int, int], crop: AttentionCrop | None) -> None:
        super().__init__()
        self.network, self.crop, self.shape = network, crop, shape

    def forward(self, packed: Tensor) -> Tensor:
        """Map rows of an image and, of a later look, features to rows of what was seen and its features."""
        channels, height, width = self.shape
        pixels = channels * height * width
        x = packed[:, :pixels].unflatten(1, self.shape)
        if self.crop is not None:
            x = self.crop(x, packed[:, pixels:])
        return torch.cat([x.flatten(1), self.network(x)], dim=1)


class _Head(nn.Module):
    """A linear layer on the features of a look."""

    def __init__(self, features: int, outputs: int) -> None:
        super().__init__()
        self.features = features
        self.linear = nn.Linear(features, outputs)

    def forward(self, packed: Tensor) -> Tensor:
        return self.linear(packed[:, -self.features :])
