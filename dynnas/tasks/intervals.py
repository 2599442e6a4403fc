"""Intervals of 95% for scores: Wilson's, the bootstrap's, and that of a mean."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

Z = 1.96
"""Standard deviations of a normal distribution that hold 95% of it, to either side."""

RESAMPLES = 200

Interval = tuple[float, float]
"""The low and the high end."""


def wilson(share: float, count: int) -> Interval:
    """Return the 95% interval of a share of `count` images (Wilson 1927)."""
    centre = (share + Z * Z / (2 * count)) / (1 + Z * Z / count)
    variance = share * (1 - share) / count + Z * Z / (4 * count * count)
    reach = Z / (1 + Z * Z / count) * math.sqrt(variance)
    return centre - reach, centre + reach


def bootstrap(
    score: Callable[[Tensor, Tensor], Mapping[str, float]], outputs: Tensor, targets: Tensor
) -> dict[str, Interval]:
    """Return the 95% interval of every score, by drawing the images again with replacement (Efron 1979).

    Args:
        score: as `Task.score`.
        outputs: (N, ...).
        targets: (N, ...).
    """
    generator = torch.Generator().manual_seed(0)
    drawn: dict[str, list[float]] = {}
    for _ in range(RESAMPLES):
        chosen = torch.randint(len(targets), (len(targets),), generator=generator).to(targets.device)
        for name, value in score(outputs[chosen], targets[chosen]).items():
            drawn.setdefault(name, []).append(value)
    quantiles = torch.tensor([0.025, 0.975], dtype=torch.double)
    return {
        name: (low, high)
        for name, values in drawn.items()
        for low, high in [torch.tensor(values, dtype=torch.double).quantile(quantiles).tolist()]
    }


def mean_interval(values: Tensor) -> tuple[float, float, float]:
    """Return the mean of `values` (N,) and its 95% interval: mean, low end, high end."""
    values = values.double()
    mean = float(values.mean())
    reach = Z * float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.inf
    return mean, mean - reach, mean + reach
