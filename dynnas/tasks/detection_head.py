"""The head of an anchor-free detector: at each place of some maps, the classes and a box around it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.tasks.detections import Detections

PRIOR = 0.01
"""Probability of every class at first (RetinaNet, Lin 2017, arXiv:1708.02002, section 4.1)."""


class DetectionHead(nn.Module):
    """Feature maps at some strides to boxes and classes, one for each place.

    As in FCOS (Tian 2019, arXiv:1904.01355) each place gives its distances to the four sides, in strides. The
    maps share the two towers of convolutions, and each has its own 1x1 units that come before them.

    In training mode outputs are (B, L, 7 + classes): a box in pixels of the image, the place (x, y) and its
    stride, then a logit for each class. In evaluation mode they are detections (B, D, 6): the box, its score
    and its class, the surest first, non-maximum suppression done; those of score 0 are none.

    Args:
        in_channels: of each map.
        strides: pixels of the image between two places of each map.
        classes: how many.
        width: channels of the towers. depth: their layers.
        detections: how outputs become detections in evaluation mode.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        strides: Sequence[int],
        classes: int,
        *,
        width: int = 32,
        depth: int = 1,
        detections: Detections | None = None,
    ) -> None:
        super().__init__()
        self.strides, self.detections = tuple(strides), detections or Detections()
        self.entries = nn.ModuleList(_unit(channels, width, 1) for channels in in_channels)
        self.class_tower = nn.Sequential(*(_unit(width, width, 3) for _ in range(depth)))
        self.box_tower = nn.Sequential(*(_unit(width, width, 3) for _ in range(depth)))
        self.class_logits = nn.Conv2d(width, classes, 1)
        self.distances = nn.Conv2d(width, 4, 1)
        nn.init.normal_(self.class_logits.weight, std=0.01)
        nn.init.constant_(self.class_logits.bias, -math.log((1 - PRIOR) / PRIOR))  # type: ignore[arg-type]

    def forward(self, maps: Tensor | Sequence[Tensor]) -> Tensor:
        """Map (B, Ci, Hi, Wi), or several of them, to outputs or detections as said above."""
        maps = [maps] if isinstance(maps, Tensor) else maps
        said = []
        for x, entry, stride in zip(maps, self.entries, self.strides, strict=True):
            x = entry(x)
            logits = self.class_logits(self.class_tower(x)).flatten(2).transpose(1, 2)
            sides = F.softplus(self.distances(self.box_tower(x))).flatten(2).transpose(1, 2) * stride
            # Broadcast and not expanded, which would keep this batch's size in an exported graph.
            centres = places(x.shape[-2], x.shape[-1], stride).to(x) + torch.zeros_like(sides[..., :2])
            boxes = torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], -1)
            step = torch.full_like(centres[..., :1], float(stride))
            said.append(torch.cat([boxes, centres, step, logits], -1))
        output = torch.cat(said, 1)
        return output if self.training else self.detections(output)


def places(height: int, width: int, stride: int) -> Tensor:
    """Return the middle of each place of a map in pixels, row by row: (height * width, 2) as x, y."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return (torch.stack([columns, rows], -1).reshape(-1, 2) + 0.5) * stride


def _unit(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
