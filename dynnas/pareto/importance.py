"""The importance of genes for a metric, among the candidates that a study has evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dynnas.pareto.front import ScoredArchitecture
from dynnas.space.space import Space

FOLDS = 5
REPEATS = 4
TREES = 60
LEAST = 20
"""Minimum number of candidates for any statement."""

_INACTIVE = -1.0


@dataclass(frozen=True)
class GeneImportance:
    """The increase of a metric's prediction error when one gene's values are shuffled.

    Attributes:
        gene: its name.
        loss: of explained variance (share of the metric's variance), on candidates held out.
        active: share of the candidates that have the gene at all; shuffled among these alone.
    """

    gene: str
    loss: float
    active: float


@dataclass(frozen=True)
class Importances:
    """The genes of one metric, the most important first.

    Attributes:
        metric: its name.
        explained: share of the metric's variance on candidates held out that the forest explains; where that
            is little, the genes' order means little.
        candidates: how many were looked at.
        genes: all that differ among the candidates.
    """

    metric: str
    explained: float
    candidates: int
    genes: tuple[GeneImportance, ...]


def importances(space: Space, candidates: Sequence[ScoredArchitecture], metric: str) -> Importances | None:
    """Return permutation importances of a random forest (Breiman 2001), held out by cross validation.

    A conditional gene is a value of its own where it is not active, and is shuffled only among candidates
    that have it, so that its importance is not that of the choice that it depends on; the share that has it
    stands beside it. Candidates of a search are no even sample of the space: it is what mattered where the
    search went.

    Args:
        space: of the candidates.
        candidates: all evaluated ones.
        metric: which they have.

    Returns:
        None for fewer than `LEAST` candidates, or a metric that is the same for all.
    """
    if len(candidates) < LEAST:
        return None
    values = np.array([candidate.metrics[metric] for candidate in candidates])
    genes, features = _features(space, candidates)
    if np.ptp(values) == 0 or not genes:
        return None
    told, shuffled = _cross_validate(features, values)
    variance = float(((values - values.mean()) ** 2).mean())
    error = float(((told - values) ** 2).mean())
    losses = (((shuffled - values) ** 2).mean(axis=(1, 2)) - error) / variance
    active = (features != _INACTIVE).mean(axis=0)
    found = [
        GeneImportance(gene, max(float(loss), 0.0), float(share))
        for gene, loss, share in zip(genes, losses, active, strict=True)
    ]
    return Importances(
        metric=metric,
        explained=max(1 - error / variance, 0.0),
        candidates=len(candidates),
        genes=tuple(sorted(found, key=lambda gene: -gene.loss)),
    )


def _features(space: Space, candidates: Sequence[ScoredArchitecture]) -> tuple[list[str], np.ndarray]:
    """Return the genes that differ, and the indices of their values, [candidates, genes]."""
    columns = {
        gene.name: np.array(
            [
                gene.values.index(candidate.architecture[gene.name])
                if gene.name in candidate.architecture
                else _INACTIVE
                for candidate in candidates
            ]
        )
        for gene in space.choices
    }
    differing = {name: column for name, column in columns.items() if np.ptp(column)}
    return list(differing), np.column_stack([*differing.values()]) if differing else np.zeros((0, 0))


def _cross_validate(features: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return predictions held out, [candidates], and with one gene shuffled, [genes, repeats, candidates]."""
    from sklearn.ensemble import RandomForestRegressor

    rng = np.random.default_rng(0)
    count, genes = features.shape
    told = np.empty(count)
    shuffled = np.empty((genes, REPEATS, count))
    for held_out in np.array_split(rng.permutation(count), FOLDS):
        rest = np.setdiff1d(np.arange(count), held_out)
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, max_features=0.5, random_state=0)
        forest.fit(features[rest], values[rest])
        told[held_out] = forest.predict(features[held_out])
        spoiled = np.broadcast_to(features[held_out], (genes, REPEATS, len(held_out), genes)).copy()
        for gene in range(genes):
            for repeat in range(REPEATS):
                column = spoiled[gene, repeat, :, gene]
                having = column != _INACTIVE
                column[having] = rng.permutation(column[having])
        answers = forest.predict(spoiled.reshape(-1, genes))
        shuffled[:, :, held_out] = answers.reshape(genes, REPEATS, len(held_out))
    return told, shuffled
