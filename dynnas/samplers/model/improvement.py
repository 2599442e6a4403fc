"""Expected hypervolume improvement (Emmerich 2005) by boxes, as in Yang 2019.

All objectives are losses. The region that the front does not dominate, up to the reference, is cut into
boxes. What a point adds to the hypervolume is, for each box, the product over objectives of the length of
the box's side that lies above the point; with independent beliefs expectations multiply as well. They are
taken by quadrature, for the objectives are normal only after a warp.
"""

from __future__ import annotations

from collections.abc import Sequence

import moocore
import numpy as np

from dynnas.samplers.model.warp import WEIGHTS

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


def expected_improvement(losses: Sequence[np.ndarray], low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Return the expected gain in hypervolume of every point.

    Args:
        losses: for each objective [points, nodes], at the nodes of a quadrature; [points, 1] where known.
        low: [boxes, objectives], from `boxes`.
        high: [boxes, objectives].

    Returns:
        [points].
    """
    gain = np.ones((len(losses[0]), len(low)))
    for at, nodes in enumerate(losses):
        edges, back = np.unique(np.concatenate([low[:, at], high[:, at]]), return_inverse=True)
        below = shortfall(edges, nodes)
        gain *= below[:, back[len(low) :]] - below[:, back[: len(low)]]
    return gain.sum(axis=1)


def shortfall(edges: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Return E max(edge - y, 0), [points, edges], for losses y at [points, nodes]; 0 for an edge at -inf."""
    weights = WEIGHTS if nodes.shape[1] > 1 else np.ones(1)
    return np.stack([np.maximum(edge - nodes, 0.0) @ weights for edge in edges], axis=1)


def thinned(front: np.ndarray, objectives: int) -> np.ndarray:
    """Return at most `count` points of a front, spread evenly, so that `boxes` returns few."""
    most = max(int(MAX_BOXES ** (1 / max(objectives - 1, 1))), 2)
    if len(front) <= most:
        return front
    order = np.argsort(front[:, 0], kind="stable")
    return front[order[np.linspace(0, len(front) - 1, most).round().astype(int)]]
