"""The fixed detector of the study: a backbone from the shelf, a feature pyramid, and the head of the task."""

from __future__ import annotations

import timm
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.tasks import DetectionHead

STRIDES = (8, 16, 32)


class ShelfDetector(nn.Module):
    """MobileNetV3-Small (Howard 2019, arXiv:1905.02244) with a pyramid (Lin 2017, arXiv:1612.03144).

    Args:
        classes: of boxes. width: channels of the pyramid and of the head.
        backbone: any name of timm whose features have these strides.
    """

    def __init__(self, classes: int, width: int = 48, backbone: str = "mobilenetv3_small_100") -> None:
        super().__init__()
        self.backbone = timm.create_model(backbone, features_only=True, pretrained=False)
        info = self.backbone.feature_info
        self.places = [info.reduction().index(stride) for stride in STRIDES]
        self.entries = nn.ModuleList(nn.Conv2d(info.channels()[at], width, 1) for at in self.places)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in STRIDES)
        self.head = DetectionHead([width] * len(STRIDES), STRIDES, classes, width=width)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to boxes, as `DetectionHead` says them."""
        features = self.backbone(x)
        maps = [entry(features[at]) for entry, at in zip(self.entries, self.places, strict=True)]
        for at in range(len(maps) - 2, -1, -1):
            maps[at] = maps[at] + F.interpolate(maps[at + 1], maps[at].shape[-2:], mode="nearest")
        return self.head([smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)])
