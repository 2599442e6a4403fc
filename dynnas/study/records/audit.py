"""The results of an audit: `audit.json`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dynnas.documents import Document
from dynnas.metric import Metric

DOCUMENT = Document("dynnas_audit", 3, "audit again")
RESAMPLES = 2000


@dataclass(frozen=True)
class AuditedNetwork:
    """One network, and its scores on the search split.

    Attributes:
        on_front: whether it is a member of the study's front.
        inherited: with the supernet's weights.
        alone: trained alone, the mean over seeds.
        by_seed: trained alone, for each seed.
    """

    key: str
    genes: dict[str, Any]
    macs: int
    on_front: bool
    inherited: float
    alone: float
    by_seed: tuple[float, ...]


@dataclass(frozen=True)
class Correlation:
    """A rank correlation with its 95% interval, by bootstrap over the networks."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@dataclass(frozen=True)
class Neighbours:
    """The number of the front's neighbouring ranks that mean something.

    Two neighbours of the front, in the order of their score, are inside the noise where their inherited
    scores differ by less than one standard deviation of a difference: sqrt(2) times that of one score.
    Its variance is that of the search split (of a share of images p (1 - p) / n), plus, where networks were
    trained with several seeds, that between the seeds. Both networks see the same images, so the first part
    errs to the safe side.

    Attributes:
        pairs, inside: neighbours, and how many of them are inside the noise.
        split_deviation: of one score by the choice of search images, mean over the front; None if the task
            does not tell.
        seed_deviation: of one score between seeds, pooled over the audited networks; None for one seed.
    """

    pairs: int
    inside: int
    split_deviation: float | None
    seed_deviation: float | None


@dataclass(frozen=True)
class Audit:
    """Inherited against stand-alone scores of networks spread over a study.

    Attributes:
        metric: the score by which the task ranks.
        epochs, seeds: of each network alone.
        kendall_tau, spearman: None where all scores of one side are equal, so that there are no ranks.
    """

    metric: Metric
    networks: tuple[AuditedNetwork, ...]
    epochs: int
    seeds: int
    kendall_tau: Correlation | None
    spearman: Correlation | None
    neighbours: Neighbours

    def to_json(self) -> str:
        """Return a document that `load` reads back."""
        return DOCUMENT.write(asdict(self))

    @staticmethod
    def load(path: Path) -> Audit:
        """Read what `to_json` wrote.

        Raises:
            StudyError: not such a document, or of another format.
        """
        return DOCUMENT.load(path, _audit)


def _audit(document: Mapping[str, Any]) -> Audit:
    networks = (
        AuditedNetwork(**{**network, "by_seed": tuple(network["by_seed"])})
        for network in document["networks"]
    )
    parts = {
        "metric": Metric(**document["metric"]),
        "networks": tuple(networks),
        **{name: _correlation(document[name]) for name in ("kendall_tau", "spearman")},
        "neighbours": Neighbours(**document["neighbours"]),
    }
    return Audit(**{**document, **parts})


def _correlation(document: Mapping[str, Any] | None) -> Correlation | None:
    return None if document is None else Correlation(**document)


def correlation(
    statistic: Callable[..., Any], first: Sequence[float], second: Sequence[float], seed: int
) -> Correlation | None:
    """Return a rank correlation of paired values, with a percentile bootstrap interval over the pairs.

    Resamples in which either side is constant have no ranks and are drawn again. If all values of one side
    are equal, there is no correlation: None.
    """
    pairs = np.array([first, second])
    if any(len(set(row)) < 2 for row in pairs.tolist()):
        return None
    rng = np.random.default_rng(seed)
    values: list[float] = []
    while len(values) < RESAMPLES:
        drawn = pairs[:, rng.integers(pairs.shape[1], size=pairs.shape[1])]
        if all(len(set(row)) > 1 for row in drawn.tolist()):
            values.append(float(statistic(*drawn).statistic))
    low, high = np.quantile(values, [0.025, 0.975])
    return Correlation(float(statistic(*pairs).statistic), float(low), float(high))


def neighbours(
    front: Sequence[float], variances: Sequence[float | None], by_seed: Sequence[Sequence[float]]
) -> Neighbours:
    """Compare the scores of a front with their noise.

    Args:
        front: inherited scores of the members.
        variances: of each of them by the choice of search images; None where the task does not tell.
        by_seed: of each audited network the scores alone, one for each seed.
    """
    ranked = sorted(zip(front, (variance or 0.0 for variance in variances), strict=True))
    several = len(by_seed[0]) > 1
    between_seeds = float(np.mean([np.var(row, ddof=1) for row in by_seed])) if several else 0.0
    inside = sum(
        higher - lower < math.sqrt(first + second + 2 * between_seeds)
        for (lower, first), (higher, second) in pairwise(ranked)
    )
    known = [variance for variance in variances if variance is not None]
    return Neighbours(
        pairs=max(0, len(ranked) - 1),
        inside=inside,
        split_deviation=math.sqrt(sum(known) / len(known)) if known else None,
        seed_deviation=math.sqrt(between_seeds) if several else None,
    )
