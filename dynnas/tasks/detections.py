"""The way from a detector's outputs at each place to a list of boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.tasks.boxes import suppressed

FIELDS = 7
"""Numbers before the logits of an output: the box, its place (x, y) and the stride of it."""

DETECTION = 6
"""Numbers of a detection: the box, its score and its class."""


def rescaled(output: Tensor, scale: tuple[float, float]) -> Tensor:
    """Return outputs (B, L, 7 + classes) or detections (B, D, 6) with pixels multiplied by `scale` (x, y)."""
    x, y = scale
    if x == y == 1:
        return output
    corners = [x, y, x, y]
    factors = corners if output.shape[-1] == DETECTION else [*corners, x, y, max(x, y)]
    moved = output[..., : len(factors)] * output.new_tensor(factors)
    return torch.cat([moved, output[..., len(factors) :]], -1)


def filled_up(output: Tensor, missing: int) -> Tensor:
    """Return detections (B, D, 6) with that many more, which are none: zeros."""
    if missing <= 0:
        return output
    none = torch.zeros_like(output[:, :1]).expand(-1, missing, -1)
    return torch.cat([output, none], 1)


@dataclass(frozen=True)
class Detections:
    """Decoding and non-maximum suppression, in operations that can be exported.

    Attributes:
        candidates: places that are looked at, the surest.
        most: detections that are given, (B, most, 6); fewer where there are fewer candidates.
        overlap: intersection over union above which the less sure of two boxes of a class is dropped.
        rounds: as of `dynnas.tasks.boxes.suppressed`.
    """

    candidates: int = 200
    most: int = 100
    overlap: float = 0.6
    rounds: int = 12

    def __call__(self, output: Tensor) -> Tensor:
        """Map outputs (B, L, 7 + classes) to detections (B, D, 6): box, score, class, the surest first.

        What is suppressed comes last, as zeros. Boxes end at the border of the image.
        """
        best, kind = output[..., FIELDS:].sigmoid().max(-1)
        scores, order = best.topk(min(self.candidates, output.shape[1]), dim=1)
        chosen = output[..., :FIELDS].gather(1, order[..., None].expand(-1, -1, FIELDS))
        kind = kind.gather(1, order).to(output.dtype)
        border = (output[..., 4:6] + output[..., 6:7] / 2).amax(1, keepdim=True)
        boxes = torch.minimum(chosen[..., :4].clamp(min=0), torch.cat([border, border], -1))
        # Boxes of different classes do not overlap where each class has a plane of its own.
        apart = boxes + (kind * (border.sum(-1) + 1))[..., None]
        scores = scores * suppressed(apart, self.overlap, self.rounds)
        scores, order = scores.topk(min(self.most, scores.shape[1]), dim=1)
        order = order[..., None]
        boxes, kind = boxes.gather(1, order.expand(-1, -1, 4)), kind[..., None].gather(1, order)
        there = (scores > 0).to(output.dtype)[..., None]
        return torch.cat([boxes, scores[..., None], kind], -1) * there
