"""The time of an exported file on the machine that wrote it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from dynnas.latency.rounds import Clock

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict

WARM_UP = 5
IMAGES = 64

RUNS = 5
"""Calls with each image; the fastest counts."""

SECONDS = 0.5
"""Time within which to stay, by fewer images; a file that is slower is timed on `LEAST_IMAGES` of them."""

LEAST_IMAGES = 4


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call with one image, over `images`, each timed `RUNS` times.

    One after the other without anchors to compare with: it says what this machine was like at that moment,
    and is no scale to rank networks by.
    """

    images: int
    mean_ms: float
    median_ms: float
    p95_ms: float
    worst_ms: float


def time_artifact(predict: Predict, images: np.ndarray, clock: Clock = time.perf_counter) -> Timing:
    """Time single images (N, channels, R, R), the fastest of `RUNS` calls each, by a clock in seconds."""
    call_ms = partial(_call_ms, predict, clock)
    ones = [images[at : at + 1] for at in range(min(IMAGES, len(images)))]
    usual_ms = min(call_ms(image) for image in ones[:WARM_UP])
    ones = ones[: max(LEAST_IMAGES, int(1000 * SECONDS / (RUNS * usual_ms)))]
    ms = np.min([[call_ms(image) for image in ones] for _ in range(RUNS)], axis=0)
    return Timing(
        images=len(ones),
        mean_ms=float(ms.mean()),
        median_ms=float(np.median(ms)),
        p95_ms=float(np.percentile(ms, 95)),
        worst_ms=float(ms.max()),
    )


def _call_ms(predict: Predict, clock: Clock, image: np.ndarray) -> float:
    start = clock()
    predict(image)
    return 1000 * (clock() - start)
