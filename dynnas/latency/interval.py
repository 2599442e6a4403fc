"""A number with the interval of its noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RESAMPLES = 200
CONFIDENCE = 0.95

DRAWN_AT_ONCE = 100_000
"""Maximum number of drawn values that are in memory at once."""


Statistic = Callable[[np.ndarray, int], np.ndarray]
"""A statistic over passes, such as `np.median`: of values (..., passes, images) along that axis."""


@dataclass(frozen=True)
class Estimate:
    """A value and its 95% interval, by bootstrap."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> tuple[float, float]:
        """Return the low and the high end."""
        return self.low, self.high

    @property
    def half_width(self) -> float:
        """Return half the width of the interval, relative to the value."""
        return (self.high - self.low) / 2 / self.value if self.value else 0.0

    def scaled(self, factor: float) -> Estimate:
        """Return the estimate in another unit."""
        return Estimate(self.value * factor, self.low * factor, self.high * factor)

    def __str__(self) -> str:
        return f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}]"


def median_by(paths: np.ndarray | None) -> Statistic:
    """Return the median over passes of every image, or of all runs of the images that take the same path.

    Where others use the machine, the median of a few runs is above that of many. So a network that is run on
    many images, on each a few times, would look slower than one that is always run on the same.

    Args:
        paths: (images,) int, by number; None where the images are not known to be alike.
    """
    if paths is None:
        return np.median
    groups = [np.flatnonzero(paths == path) for path in np.unique(paths)]

    def statistic(values: np.ndarray, axis: int) -> np.ndarray:
        found = np.empty(values.shape[:axis] + values.shape[axis + 1 :])
        for group in groups:
            found[..., group] = np.median(values[..., group], axis=(axis, -1))[..., None]
        return found

    return statistic


def estimate(passes: np.ndarray, statistic: Statistic, seed: int = 0) -> Estimate:
    """Return the mean over images of a statistic over passes, with a bootstrap interval.

    Passes are drawn in blocks of neighbours, for what disturbs one also disturbs the next (moving blocks of
    n^(1/3); Künsch 1989).

    Args:
        passes: (passes, images), the same images in every pass.
        statistic: of an array along an axis, such as `np.median`.
        seed: draws the passes.
    """
    count = len(passes)
    block = max(1, round(count ** (1 / 3)))
    starts = np.random.default_rng(seed).integers(count - block + 1, size=(RESAMPLES, -(-count // block)))
    drawn = (starts[:, :, None] + np.arange(block)).reshape(RESAMPLES, -1)[:, :count]
    parts = np.array_split(drawn, -(-RESAMPLES * passes.size // DRAWN_AT_ONCE))
    values = np.concatenate([statistic(passes[rows], 1).mean(1) for rows in parts])
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
    return Estimate(float(statistic(passes, 0).mean()), low, high)


def low_quantile(values: np.ndarray, axis: int) -> np.ndarray:
    """Return the 10th percentile: about what an undisturbed run takes."""
    return np.quantile(values, 0.1, axis)
