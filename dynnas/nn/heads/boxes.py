"""An anchor-free detector: a feature pyramid, and at each of its places the classes and a box."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor

from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.heads.neck import FINEST, NECK, TOWER, Neck
from dynnas.nn.registry import HEADS, MapHead
from dynnas.tasks.detection_head import DetectionHead
from dynnas.tasks.detections import rescaled


@HEADS.register("boxes")
class Boxes(MapHead):
    """`dynnas.tasks.DetectionHead` behind a neck; boxes are in pixels of the data."""

    answers: ClassVar[str] = "boxes"
    knobs = (NECK, TOWER, FINEST)
    paper = "Tian et al. 2019, arXiv:1904.01355; Lin et al. 2017, arXiv:1612.03144"

    def __init__(self, config: MapHeadConfig) -> None:
        """Build from its config."""
        super().__init__()
        width = int(config.kind["neck"])
        self.scale = config.scale
        self.neck = Neck(config.in_channels, config.strides, width)
        self.head = DetectionHead(
            [width] * len(config.strides),
            config.strides,
            config.outputs,
            width=width,
            depth=int(config.kind["tower"]),
            detections=config.detections,
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, Ci, Hi, Wi), the finest first, to outputs (B, L, 7 + classes) or detections (B, D, 6)."""
        return rescaled(self.head(self.neck(maps)), self.scale)
