"""Expected hypervolume improvement in closed form (Emmerich 2005; by boxes as in Yang 2019).

All objectives are losses. The region that the front does not dominate, up to the reference, is cut into
boxes. What a point adds to the hypervolume is, for each box, the product over objectives of the length of
the box's side that lies above the point; with independent normal beliefs expectations multiply as well.
"""

from __future__ import annotations

import moocore
import numpy as np
from scipy.special import ndtr

# Boxes grow with the front's size to the power of the objectives less one.
MAX_BOXES = 1500


def boxes(front: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return disjoint boxes that together are the region below `reference` that `front` does not dominate.

    Args:
        front: [points, objectives] losses; points beyond the reference count nothing.
        reference: [objectives].

    Returns:
        Lower (-inf where there is no end) and upper corners, [boxes, objectives] each.
    """
    front = front[(front < reference).all(axis=1)]
    if len(reference) == 1:
        best = min(float(front.min()), float(reference[0])) if len(front) else float(reference[0])
        return np.array([[-np.inf]]), np.array([[best]])
    # Slabs of the last objective: within one, only points that lie below it dominate anything.
    order = np.argsort(front[:, -1], kind="stable")
    front = front[order]
    edges = np.concatenate([[-np.inf], front[:, -1], reference[-1:]])
    lows, highs = [], []
    for number in range(len(edges) - 1):
        low, high = edges[number], edges[number + 1]
        if high <= low:
            continue
        below = _nondominated(front[:number, :-1])
        inner_low, inner_high = boxes(below, reference[:-1])
        lows.append(np.column_stack([inner_low, np.full(len(inner_low), low)]))
        highs.append(np.column_stack([inner_high, np.full(len(inner_high), high)]))
    return np.concatenate(lows), np.concatenate(highs)


def _nondominated(points: np.ndarray) -> np.ndarray:
    if len(points) < 2:
        return points
    if points.shape[1] == 1:
        return points[[int(points.argmin())]]
    return points[moocore.is_nondominated(points)]


def expected_improvement(
    mean: np.ndarray, deviation: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return the expected gain in hypervolume of every point.

    Args:
        mean: [points, objectives] of the beliefs on the losses.
        deviation: [points, objectives], 0 where a loss is known.
        low: [boxes, objectives], from `boxes`.
        high: [boxes, objectives].

    Returns:
        [points].
    """
    gain = np.ones((len(mean), len(low)))
    for at in range(mean.shape[1]):
        edges, back = np.unique(np.concatenate([low[:, at], high[:, at]]), return_inverse=True)
        below = shortfall(edges[None], mean[:, at, None], deviation[:, at, None])
        gain *= below[:, back[len(low) :]] - below[:, back[: len(low)]]
    return gain.sum(axis=1)


def shortfall(edge: np.ndarray, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Return E max(edge - y, 0) for normal y; 0 for an edge at -inf."""
    gap = edge - mean
    known = deviation <= 0
    scaled = gap / np.where(known, 1.0, deviation)
    with np.errstate(invalid="ignore"):
        density = np.exp(-0.5 * scaled**2) / np.sqrt(2 * np.pi)
        value = np.where(known, np.maximum(gap, 0.0), gap * ndtr(scaled) + deviation * density)
    return np.where(np.isneginf(edge), 0.0, value)


def thinned(front: np.ndarray, objectives: int) -> np.ndarray:
    """Return at most `count` points of a front, spread evenly, so that `boxes` returns few."""
    most = max(int(MAX_BOXES ** (1 / max(objectives - 1, 1))), 2)
    if len(front) <= most:
        return front
    order = np.argsort(front[:, 0], kind="stable")
    return front[order[np.linspace(0, len(front) - 1, most).round().astype(int)]]
