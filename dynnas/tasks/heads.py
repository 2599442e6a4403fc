"""Heads that read a backbone's maps: the pooled linear one, that of pixels, and a backbone with either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.errors import TaskError

if TYPE_CHECKING:
    from dynnas.tasks.task import Task

Maps = Tensor | Sequence[Tensor]
"""A map (B, C, H, W), or several of them, the finest first."""


class PooledLinear(nn.Sequential):
    """The mean over positions of the coarsest map, dropout, and a linear layer: (B, outputs).

    Args:
        in_channels: of each map, the finest first.
        outputs: numbers for an image.
        dropout: probability, before the linear layer.
    """

    def __init__(self, in_channels: Sequence[int], outputs: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout), nn.Linear(in_channels[-1], outputs)
        )

    def forward(self, maps: Maps) -> Tensor:
        """Map the coarsest of the maps to (B, outputs)."""
        found: Tensor = super().forward(maps if isinstance(maps, Tensor) else maps[-1])
        return found


class PlaceClassifier(nn.Module):
    """A 1x1 convolution on each map, the coarse answers enlarged and added to the finest: (B, outputs, H, W).

    Long et al. 2015, arXiv:1411.4038, section 4.2.

    Args:
        in_channels: of each map, the finest first.
        outputs: numbers for a place.
        dropout: probability for a whole channel.
    """

    def __init__(self, in_channels: Sequence[int], outputs: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.dropout = nn.Dropout2d(dropout)
        self.classifiers = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for channels in in_channels)

    def forward(self, maps: Maps) -> Tensor:
        """Map (B, Ci, Hi, Wi), the finest first, to (B, outputs, H0, W0)."""
        maps = [maps] if isinstance(maps, Tensor) else maps
        said = [classifier(self.dropout(x)) for classifier, x in zip(self.classifiers, maps, strict=True)]
        found: Tensor = said[-1]
        for finer in reversed(said[:-1]):
            found = finer + F.interpolate(found, finer.shape[-2:], mode="bilinear", align_corners=False)
        return found


class WithHead(nn.Module):
    """A backbone that gives maps, such as timm's with `features_only=True`, and the head of a task on them.

    Args:
        backbone: from images (B, C, H, W) to a map (B, Ci, Hi, Wi) or several, the finest first.
        task: whose head it is.
        images: a few, (B, C, H, W), by which channels and strides of the maps are found.
        dropout: as `Task.head` takes it.

    Raises:
        TaskError: the backbone gives something else, or the task has no head.
    """

    def __init__(self, backbone: nn.Module, task: Task, images: Tensor, dropout: float = 0.0) -> None:
        super().__init__()
        trained = backbone.training
        with torch.no_grad():
            maps = backbone.eval()(images)
        backbone.train(trained)
        maps = [maps] if isinstance(maps, Tensor) else maps
        if not isinstance(maps, Sequence) or not maps or any(x.ndim != 4 for x in maps):
            raise TaskError(
                f"task {task.name}: {type(backbone).__name__} gives no maps; needed is (B, C, H, W), or a "
                "list of them, the finest first (timm: features_only=True)"
            )
        strides = [max(1, round(images.shape[-2] / x.shape[-2])) for x in maps]
        self.backbone = backbone
        self.head = task.head([x.shape[1] for x in maps], strides, dropout=dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, C, H, W) to what the head gives: (B, ...)."""
        found: Tensor = self.head(self.backbone(x))
        return found
