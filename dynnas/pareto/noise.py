"""Metrics that say how exact scores are and what members of a front gain over each other."""

from __future__ import annotations

from collections.abc import Mapping

GAIN, GAIN_LOW, GAIN_HIGH = "test_gain", "test_gain_low", "test_gain_high"
"""The gain of a member on the test split over the next cheaper one, image by image, and its 95% interval."""

AGREEMENT, ARTIFACT_GAP = "artifact_agreement", "artifact_gap"
"""The share of test images that the compiled network answers as torch does, and its test score,
less that of torch.
"""


def tested(metric: str) -> str:
    """Return the name of a metric on the test split."""
    return f"test_{metric}"


def is_tested(metric: str) -> bool:
    """Tell whether the name of a metric is that of one on the test split."""
    return metric.startswith(tested(""))


def low(metric: str) -> str:
    """Return the name of the low end of a metric's 95% interval."""
    return f"{metric}_low"


def high(metric: str) -> str:
    """Return the name of the high end of a metric's 95% interval."""
    return f"{metric}_high"


def half_width(metrics: Mapping[str, float], metric: str) -> float | None:
    """Return half the width of a metric's 95% interval; None where it has none."""
    if low(metric) not in metrics or high(metric) not in metrics:
        return None
    return (metrics[high(metric)] - metrics[low(metric)]) / 2


def beats_cheaper(metrics: Mapping[str, float]) -> bool | None:
    """Tell whether a member of a front is better on the test split than the next cheaper one.

    It is not where the 95% interval of what it gains reaches down to 0; None where that is not known.
    """
    return metrics[GAIN_LOW] > 0 if GAIN_LOW in metrics else None
