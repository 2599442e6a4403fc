"""The assignment of a detector's places to the boxes that they are to find."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.tasks.boxes import iou
from dynnas.tasks.detections import FIELDS

PLACES = 10
"""Places for each box, the best."""

CLASS_POWER, BOX_POWER = 1.0, 6.0
"""The powers of class and box in the fit of a place to a box (TOOD, arXiv:2108.07755, section 4.1)."""


@torch.no_grad()
def assign(output: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Assign each box to the places inside of it that say it best (TOOD, Feng 2021, arXiv:2108.07755).

    A place belongs to one box, the one that its own box covers best. A box without any place inside of it has
    the one next to its middle.

    Args:
        output: (B, L, 7 + classes), of `DetectionHead`.
        target: (B, M, 5): class or -1, x1, y1, x2, y2.

    Returns:
        What the classes are to be (B, L, classes), from 0 to 1; the box of each place (B, L, 4); and which
        places have one (B, L) bool.
    """
    scores, centres = output[..., FIELDS:].sigmoid(), output[..., 4:6]
    count, classes = target.shape[1], scores.shape[-1]
    there = target[..., 0] >= 0
    if not count or not there.any():
        return torch.zeros_like(scores), output[..., :4], scores.new_zeros(scores.shape[:2]).bool()
    kinds, boxes = target[..., 0].clamp(min=0).long(), target[..., 1:]
    overlaps = iou(boxes, output[..., :4])  # (B, M, L)
    own = scores.transpose(1, 2).gather(1, kinds[..., None].expand(-1, -1, scores.shape[1]))
    fit = own.pow(CLASS_POWER) * overlaps.pow(BOX_POWER)
    candidates = _inside(centres, boxes) & there[..., None]
    # Before anything is learnt all fits may be 0: nearer places come first then.
    rank = torch.where(candidates, fit + 1e-9 * (1 + overlaps), -1.0)
    chosen = torch.zeros_like(candidates)
    best = rank.topk(min(PLACES, rank.shape[2]), dim=2).indices
    chosen.scatter_(2, best, True)
    chosen &= candidates
    owner = torch.where(chosen, overlaps, -1.0).argmax(1)  # (B, L)
    taken = chosen.any(1)
    mine = chosen & (torch.arange(count, device=owner.device)[:, None] == owner[:, None])
    fit, overlaps = fit * mine, overlaps * mine
    share = fit / fit.amax(2, keepdim=True).clamp(min=1e-12) * overlaps.amax(2, keepdim=True)
    weight = (share.amax(1) * taken).clamp(max=1)
    kind = kinds.gather(1, owner)
    wanted = F.one_hot(kind, classes).to(output.dtype) * weight[..., None]
    return wanted, boxes.gather(1, owner[..., None].expand(-1, -1, 4)), taken


def _inside(centres: Tensor, boxes: Tensor) -> Tensor:
    """Return which places lie in which boxes, the one next to the middle always: bool (B, M, L)."""
    low, high = boxes[..., None, :2], boxes[..., None, 2:]
    inside = ((centres[:, None] > low) & (centres[:, None] < high)).all(-1)
    away = (centres[:, None] - (low + high) / 2).square().sum(-1)
    nearest = torch.zeros_like(inside).scatter_(2, away.argmin(2, keepdim=True), True)
    return inside | (nearest & ~inside.any(2, keepdim=True))
