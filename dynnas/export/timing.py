"""The time of an exported file on the machine that wrote it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from dynnas.export.formats.format import Predict

WARM_UP = 5
IMAGES = 64

RUNS = 5
"""Maximum number of calls with each image; the fastest counts."""

SECONDS = 0.5
"""Time after which no image is run once more; each is run once in any case."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds of a call with one image, over `images`, each timed up to `RUNS` times.

    One after the other without anchors to compare with: it says what this machine was like at that moment,
    and is no scale to rank networks by.
    """

    images: int
    mean_ms: float
    median_ms: float
    p95_ms: float
    worst_ms: float


def time_artifact(predict: Predict, images: np.ndarray) -> Timing:
    """Time single images (N, channels, R, R), the fastest of up to `RUNS` calls each."""
    ones = [images[at : at + 1] for at in range(min(IMAGES, len(images)))]
    for image in ones[:WARM_UP]:
        predict(image)
    end = time.monotonic() + SECONDS
    ms = np.full(len(ones), np.inf)
    for run in range(RUNS):
        if run and time.monotonic() > end:
            break
        ms = np.minimum(ms, [_call_ms(predict, image) for image in ones])
    return Timing(
        images=len(ones),
        mean_ms=float(ms.mean()),
        median_ms=float(np.median(ms)),
        p95_ms=float(np.percentile(ms, 95)),
        worst_ms=float(ms.max()),
    )


def _call_ms(predict: Predict, image: np.ndarray) -> float:
    start = time.perf_counter()
    predict(image)
    return 1000 * (time.perf_counter() - start)
