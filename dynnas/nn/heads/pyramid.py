"""A head for the classes of pixels: a feature pyramid, whose finest map says them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.heads.neck import FINEST, NECK, TOWER, Neck, unit
from dynnas.nn.registry import HEADS, MapHead


@HEADS.register("pyramid")
class Pyramid(MapHead):
    """Adds coarse maps to finer ones, and answers by depthwise separable layers on the finest."""

    answers: ClassVar[str] = "pixels"
    knobs = (NECK, TOWER, FINEST)
    capacity = 20.0
    paper = "Lin et al. 2017, arXiv:1612.03144"

    def __init__(self, config: MapHeadConfig) -> None:
        """Build from its config."""
        super().__init__()
        width = int(config.kind["neck"])
        self.neck = Neck(config.in_channels, config.strides, width)
        self.tower = nn.Sequential(
            *(
                nn.Sequential(unit(width, width, 3, groups=width), unit(width, width, 1))
                for _ in range(int(config.kind["tower"]))
            )
        )
        self.classifier = nn.Conv2d(width, config.outputs, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, Ci, Hi, Wi), the finest first, to logits (B, outputs, H0, W0)."""
        return self.classifier(self.tower(self.neck(maps)[0]))
