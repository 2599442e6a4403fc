"""The points of accuracy and cost that are worth joining a front."""

from __future__ import annotations

import moocore
import numpy as np

MARGIN = 0.1
"""Distance of the reference beyond the worst values, relative to the ranges, so that the ends count too."""

Point = tuple[float, float]
"""An accuracy and a cost."""


def non_dominated(points: np.ndarray) -> np.ndarray:
    """Return which of (N, 2) accuracies and costs no other dominates, (N,) bool.

    Of equal ones the first counts.
    """
    return moocore.is_nondominated(points * (-1, 1))


def reference_of(points: np.ndarray) -> Point:
    """Return an accuracy and a cost that are worse than all of (N, 2)."""
    (least, cheapest), (most, dearest) = points.min(axis=0), points.max(axis=0)
    return float(least - MARGIN * (most - least)), float(dearest + MARGIN * (dearest - cheapest))


def hypervolume(points: np.ndarray, reference: Point) -> float:
    """Return the hypervolume between (N, 2) accuracies and costs and the reference."""
    return float(moocore.hypervolume(points * (-1, 1), ref=(-reference[0], reference[1])))


def most_useful(known: np.ndarray, offered: np.ndarray, reference: Point, keep: int) -> list[int]:
    """Return the rows that add most to a front's hypervolume, one after the other.

    There are at most `keep`, and none without a gain.

    Args:
        known: (N, 2) accuracies and costs of the front. offered: (M, 2), of what may join it.
        reference: worse than all of them.
    """
    chosen: list[int] = []
    while len(offered) and len(chosen) < keep:
        gains = _gains(np.concatenate([known, offered[chosen]]), offered, reference)
        best = int(gains.argmax())
        if gains[best] <= 0:
            break
        chosen.append(best)
    return chosen


def _gains(known: np.ndarray, offered: np.ndarray, reference: Point) -> np.ndarray:
    """Return the hypervolume that each offered point alone would add to the known ones."""
    known = known[non_dominated(known)]
    known = known[known[:, 1].argsort()]
    # Between two of these costs the known ones reach one accuracy: that of the cheaper one.
    costs = np.concatenate([[-np.inf], known[:, 1], [reference[1]]])
    reached = np.concatenate([[reference[0]], known[:, 0]])
    width = np.maximum(costs[1:] - np.maximum(costs[:-1], offered[:, 1:]), 0)
    return (width * np.maximum(offered[:, :1] - reached, 0)).sum(axis=1)
