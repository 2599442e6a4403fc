"""The result of a latency measurement, and the scale on which a study's latencies stand."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.documents import Document
from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.interval import Estimate
from dynnas.settings.settings import TargetSettings

DOCUMENT = Document("dynnas_anchors", 1, "measure all again, on a new scale: dynnas measure STUDY --all")


@dataclass(frozen=True)
class Spread:
    """The raw times of all runs in milliseconds: how noisy the measurement was, not for ranking.

    Attributes:
        iqr_ms: between the 25th and the 75th percentile.
    """

    mean_ms: float
    p95_ms: float
    worst_ms: float
    iqr_ms: float

    @staticmethod
    def of(ms: np.ndarray) -> Spread:
        """Summarise times (N,)."""
        lower, upper, p95 = np.percentile(ms, [25, 75, 95]).tolist()
        return Spread(float(ms.mean()), p95, float(ms.max()), upper - lower)


def count_outliers(passes: np.ndarray) -> int:
    """Return how many of (passes, images) lie beyond Tukey's outer fence of their image: three IQRs away."""
    lower, upper = np.percentile(passes, [25, 75], axis=0)
    reach = 3 * (upper - lower)
    return int(((passes < lower - reach) | (passes > upper + reach)).sum())


@dataclass(frozen=True)
class Latency:
    """The latency of a run on an undisturbed device.

    The distribution is over images; noise is in the other fields.

    Attributes:
        mean_ms, median_ms, p95_ms, worst_ms: over the images; equal where one image stands for all.
        interval_ms: in which `mean_ms` lies, by bootstrap over the rounds.
        ratio: `mean_ms` as a multiple of the anchors' time.
        plain_median_ms, plain_low_ms: median and 10th percentile of the raw times (the mean of those of every
            image), to compare with other tools.
        repeats: the raw times.
        rounds: timed runs, one in each round with the anchors.
        outliers: runs far from their like, which the medians leave out.
        environment: digest of `environment_fingerprint`.
    """

    mean_ms: float
    median_ms: float
    p95_ms: float
    worst_ms: float
    interval_ms: tuple[float, float]
    ratio: float
    plain_median_ms: Estimate
    plain_low_ms: Estimate
    repeats: Spread
    rounds: int
    outliers: int
    environment: str

    @property
    def latency_ms(self) -> float:
        """The value to rank by: the mean over images."""
        return self.mean_ms

    def to_dict(self) -> dict[str, Any]:
        """Return all values under their names, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class AnchorReference:
    """The scale of a study's latencies: the anchors' time when it started, and the environment."""

    anchor_ms: float
    environment: str

    def save(self, path: Path) -> None:
        """Write the scale as JSON for `load`."""
        atomic_write(path, DOCUMENT.write(asdict(self)))

    @staticmethod
    def read(path: Path) -> AnchorReference:
        """Read what `save` wrote.

        Raises:
            StudyError: the file is damaged.
        """
        return DOCUMENT.load(path, lambda content: AnchorReference(**content))

    @staticmethod
    def load(path: Path, target: TargetSettings) -> AnchorReference:
        """Read what `save` wrote, so that a study continues on the same scale.

        Raises:
            StudyError: the file is damaged, or was measured in another environment than this machine's for
                `target`.
        """
        reference = AnchorReference.read(path)
        here = environment_fingerprint(target)["digest"]
        if reference.environment != here:
            raise StudyError(
                f"{path}: latencies were measured in environment {reference.environment}, this one is {here} "
                "(processor, threads, runtime or library versions differ), so new times would not compare; "
                "continue on the same machine and versions, or measure all of it again here: "
                "dynnas measure STUDY --all"
            )
        return reference
