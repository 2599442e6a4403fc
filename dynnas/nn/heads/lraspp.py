"""LR-ASPP, the head of MobileNetV3 for the classes of pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.heads.neck import FINEST, NECK, unit
from dynnas.nn.registry import HEADS, MapHead


@HEADS.register("lraspp")
class LRASPP(MapHead):
    """Answers by the coarsest map, weighted by what all of it says, and by the finest map beside it."""

    answers: ClassVar[str] = "pixels"
    knobs = (NECK, FINEST)
    capacity = 10.0
    paper = "Howard et al. 2019, arXiv:1905.02244, section 6.4"

    def __init__(self, config: MapHeadConfig) -> None:
        """Build from its config; a single map is both the coarsest and the finest."""
        super().__init__()
        width, coarse = int(config.kind["neck"]), config.in_channels[-1]
        self.unit = unit(coarse, width, 1)
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Conv2d(coarse, width, 1, bias=False), nn.Sigmoid()
        )
        self.coarse = nn.Conv2d(width, config.outputs, 1)
        # By its stride: a supernet shares what reads maps of one stride.
        self.fine = nn.ModuleDict(
            {f"s{config.strides[0]}": nn.Conv2d(config.in_channels[0], config.outputs, 1)}
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, Ci, Hi, Wi), the finest first, to logits (B, outputs, H0, W0)."""
        coarse, fine = maps[-1], maps[0]
        x = self.unit(coarse) * self.gate(coarse)
        x = F.interpolate(x, fine.shape[-2:], mode="bilinear", align_corners=False)
        (classifier,) = self.fine.values()
        return self.coarse(x) + classifier(fine)
