"""Monotone warps of an objective, under which a Gaussian process describes it better."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

# Share of the values, from either end, whose mean slope continues beyond that end.
_SLOPE = 0.1

# Nodes and weights of Gauss-Hermite quadrature: expectations of a function of a standard normal.
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


@dataclass(frozen=True)
class Warp:
    """A piecewise linear, increasing function of losses.

    Attributes:
        losses: [knots] increasing.
        warped: [knots] increasing.
    """

    losses: np.ndarray
    warped: np.ndarray

    @staticmethod
    def of(kind: str, losses: np.ndarray) -> Warp:
        """Return the warp of a kind for these losses, scaled to mean 0 and deviation 1.

        Args:
            kind: `linear`, or `rank` for normal scores (a Gaussian copula, Salinas et al. 2020).
            losses: [points].
        """
        knots, counts = np.unique(losses, return_counts=True)
        if kind == "rank" and len(knots) > 2:
            warped = ndtri(_mean_ranks(counts) / (len(losses) + 1))
        else:
            warped = knots
        mean = float((warped * counts).sum() / len(losses))
        deviation = float(np.sqrt((counts * (warped - mean) ** 2).sum() / len(losses))) or 1.0
        warped = (warped - mean) / deviation if len(knots) > 1 else np.zeros(1)
        return Warp(*_extended(knots, warped))

    def __call__(self, losses: np.ndarray) -> np.ndarray:
        """Return warped losses, [points]."""
        return np.interp(losses, self.losses, self.warped)

    def inverse(self, warped: np.ndarray) -> np.ndarray:
        """Return losses from warped ones, of any shape."""
        return np.interp(warped, self.warped, self.losses)

    def quantiles(self, mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
        """Return losses at `NODES`, [points, nodes], of warped losses that are normal."""
        return self.inverse(mean[:, None] + deviation[:, None] * NODES)

    def variance(self, losses: np.ndarray, error: float) -> float:
        """Return the mean variance of warped losses, [points], that have an error of this deviation."""
        return float(((self(losses + error) - self(losses - error)) ** 2).mean() / 4)


def mean_ranks(values: np.ndarray) -> np.ndarray:
    """Return the rank of each value from 1, [points]; equal ones share their mean rank."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return _mean_ranks(counts)[places]


def _mean_ranks(counts: np.ndarray) -> np.ndarray:
    """Return the mean ranks of groups of equal values, the lowest group first, from the groups' sizes."""
    return np.cumsum(counts) - (counts - 1) / 2


def _extended(losses: np.ndarray, warped: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the knots with one more far beyond either end, by the mean slope of the knots near it."""
    if len(losses) < 2:
        losses, warped = np.append(losses, losses[-1] + 1.0), np.append(warped, warped[-1] + 1.0)
    far = 1e3 * (warped[-1] - warped[0])
    near = min(max(int(_SLOPE * len(losses)), 1), len(losses) - 1)
    low = (losses[near] - losses[0]) / (warped[near] - warped[0])
    high = (losses[-1] - losses[-1 - near]) / (warped[-1] - warped[-1 - near])
    return (
        np.concatenate([[losses[0] - far * low], losses, [losses[-1] + far * high]]),
        np.concatenate([[warped[0] - far], warped, [warped[-1] + far]]),
    )
