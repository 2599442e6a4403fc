"""PointRend: classes of pixels, told coarsely everywhere and again where they are uncertain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.heads.neck import FINEST, NECK, unit
from dynnas.nn.registry import HEADS, MapHead
from dynnas.space.knob import Knob, whole

POINTS = Knob(
    "points", whole(1, 100), "pixels of each finer map that are told again, in per cent", default=10
)
LAYERS = Knob("layers", whole(1, 4), "layers that tell a single pixel, before its answer", default=2)


@HEADS.register("pointrend")
class PointRend(MapHead):
    """Answers on the coarsest map, enlarges this map by map, and answers again where it is uncertain.

    At each finer map the answer is enlarged (bilinear), and the pixels whose two best classes are closest are
    told again by layers that see one pixel: the finest map and the coarse answer at that place, the coarse
    answer at each layer (section 3; as the authors' code for semantic segmentation). In training the paper
    draws points, most of them uncertain ones, beside the loss of the coarse answer; here the answer is
    trained as it is given, so that a pixel learns through what tells it.
    """

    answers: ClassVar[str] = "pixels"
    knobs = (NECK, FINEST, POINTS, LAYERS)
    capacity = 30.0
    paper = "Kirillov et al. 2020, arXiv:1912.08193"

    def __init__(self, config: MapHeadConfig) -> None:
        """Build from its config; of a single map nothing is told again."""
        super().__init__()
        width, outputs = int(config.kind["neck"]), config.outputs
        # By their strides: a supernet shares what reads maps of one stride.
        self.coarse = nn.ModuleDict({f"s{config.strides[-1]}": unit(config.in_channels[-1], width, 1)})
        self.body, self.classifier = unit(width, width, 3), nn.Conv2d(width, outputs, 1)
        self.percent = int(config.kind["points"])
        self.points = nn.ModuleDict()
        if len(config.in_channels) > 1:
            # The coarse answer first: what varies between networks of a supernet is the rest.
            seen = [config.in_channels[0], *[width] * (int(config.kind["layers"]) - 1)]
            layers = [nn.Linear(outputs + own, width) for own in seen]
            last = nn.Linear(outputs + width, outputs)
            self.points[f"s{config.strides[0]}"] = nn.ModuleList([*layers, last])

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Map (B, Ci, Hi, Wi), the finest first, to logits (B, outputs, H0, W0)."""
        (lateral,) = self.coarse.values()
        coarse: Tensor = self.classifier(self.body(lateral(maps[-1])))
        y = coarse
        for finer in reversed(maps[:-1]):
            y = F.interpolate(y, finer.shape[-2:], mode="bilinear", align_corners=False)
            y = self._refined(y, coarse, maps[0])
        return y

    def unseen_macs(self, maps: Sequence[Tensor]) -> int:
        """Return the multiply-adds of sampling maps (B, Ci, Hi, Wi) at points: four for each value."""
        pixels = sum(self._count(x.shape[2] * x.shape[3]) for x in maps[:-1])
        return 4 * maps[0].shape[0] * pixels * (maps[0].shape[1] + self.classifier.out_channels)

    def _count(self, pixels: int) -> int:
        return (pixels * self.percent + 99) // 100  # rounded up; graphs divide negative numbers otherwise

    def _refined(self, y: Tensor, coarse: Tensor, finest: Tensor) -> Tensor:
        """Return logits (B, outputs, H, W) whose most uncertain pixels are told again."""
        height, width = y.shape[-2:]
        places = uncertainty(y).flatten(1).topk(self._count(height * width), dim=1).indices
        rows = torch.div(places, width, rounding_mode="floor").to(y.dtype)
        columns = torch.remainder(places, width).to(y.dtype)
        grid = torch.stack([(2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1], dim=2)[:, None]
        fine, said = (
            F.grid_sample(x, grid, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
            for x in (finest, coarse)
        )
        again = self.told(fine, said).transpose(1, 2)
        index = places[:, None].expand(-1, y.shape[1], -1)
        return y.flatten(2).scatter(2, index, again.to(y.dtype)).unflatten(2, (height, width))

    def told(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Map what is seen at points (B, N, C), and their coarse answers (B, N, outputs), to new answers."""
        (parts,) = self.points.values()
        *layers, last = parts.children()
        for layer in layers:
            fine = F.relu(layer(torch.cat([coarse, fine], dim=2)))
        found: Tensor = last(torch.cat([coarse, fine], dim=2))
        return found


def uncertainty(logits: Tensor) -> Tensor:
    """Return how close the two best classes of logits (B, classes, H, W) are: (B, H, W), at most 0."""
    best = logits.topk(2, dim=1).values
    return best[:, 1] - best[:, 0]
