"""Boxes (x1, y1, x2, y2) in pixels: overlap, suppression, and average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))
"""Intersections over union from which COCO counts a box as found."""

_RECALLS = np.linspace(0, 1, 101)


def areas(boxes: Tensor) -> Tensor:
    """Return the areas of boxes (..., 4); 0 for those that are turned inside out."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1)


def iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union of every pair: (..., N, 4) and (..., M, 4) to (..., N, M)."""
    low = torch.maximum(boxes[..., :, None, :2], others[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], others[..., None, :, 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = areas(boxes)[..., :, None] + areas(others)[..., None, :] - common
    return common / union.clamp(min=1e-9)


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the generalised intersection over union of each pair, -1 to 1: (..., 4) twice to (...).

    Of boxes that do not meet it tells how far they are apart (Rezatofighi 2019, arXiv:1902.09630).
    """
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    common = (high - low).clamp(min=0).prod(-1)
    union = (areas(boxes) + areas(others) - common).clamp(min=1e-9)
    around = (
        (torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2]))
        .clamp(min=0)
        .prod(-1)
        .clamp(min=1e-9)
    )
    return common / union - (around - union) / around


def suppressed(boxes: Tensor, threshold: float, rounds: int) -> Tensor:
    """Return 1 for boxes that non-maximum suppression keeps and 0 for the others: (B, N, 4) to (B, N).

    A box is dropped if it overlaps one that is kept and comes before it. The greedy rule goes through the
    boxes one by one; here all are decided again from one another in each round, in operations that every
    runtime has. Box n is final after as many rounds as there are boxes in the longest chain of overlaps that
    ends in it, so that `rounds` = N is always exact; a dozen are nearly always.

    Args:
        boxes: the surest first.
        threshold: intersection over union that is an overlap.
        rounds: how often.
    """
    count = boxes.shape[1]
    before = torch.ones(count, count, device=boxes.device).tril(-1)
    overlap = (iou(boxes, boxes) > threshold).to(boxes.dtype) * before
    kept = torch.ones_like(boxes[..., 0])
    for _ in range(rounds):
        kept = 1 - (overlap @ kept[..., None])[..., 0].clamp(max=1)
    return kept


def matches(found: np.ndarray, truth: np.ndarray, thresholds: Sequence[float] = THRESHOLDS) -> np.ndarray:
    """Match the detections of one class in one image: bool (T, N), which are right at each threshold.

    A detection takes the box that it covers best among those that no surer one has taken.

    Args:
        found: (N, 4), the surest first. truth: (M, 4). thresholds: T intersections over union.
    """
    right = np.zeros((len(thresholds), len(found)), bool)
    if not len(found) or not len(truth):
        return right
    overlaps = iou(torch.from_numpy(found).double(), torch.from_numpy(truth).double()).numpy()
    for row, threshold in enumerate(thresholds):
        free = np.ones(len(truth), bool)
        for column, overlap in enumerate(overlaps):
            covered = np.where(free, overlap, -1.0)
            best = int(covered.argmax())
            if covered[best] >= min(threshold, 1 - 1e-10):
                free[best], right[row, column] = False, True
    return right


def average_precision(scores: np.ndarray, right: np.ndarray, positives: int) -> np.ndarray:
    """Return the average precision at each threshold as COCO takes it: (N,) and bool (T, N) to (T,).

    Precision is made to fall with recall, and read at 101 recalls.

    Args:
        scores: of all detections of a class. right: which of them are. positives: boxes to be found.
    """
    order = np.argsort(-scores, kind="mergesort")
    hits = right[:, order].cumsum(1).astype(np.float64)
    precision = hits / np.arange(1, hits.shape[1] + 1)
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    recall = hits / max(1, positives)
    found = np.zeros(len(right))
    for row in range(len(right)):
        places = np.searchsorted(recall[row], _RECALLS, side="left")
        inside = places < len(order)
        found[row] = precision[row, places[inside]].sum() / len(_RECALLS)
    return found
