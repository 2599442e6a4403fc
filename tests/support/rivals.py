"""Searches without a model, or with the simplest one: what any sampler of ours must be ahead of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from dynnas.samplers.architecture import ArchitectureSampler, Proposal
from dynnas.samplers.genome import Genome, Rows
from dynnas.samplers.history import History, Reader, ranks
from dynnas.space.space import Space

_RANDOM = 10

# LINAS: networks evaluated at a time, and generations of as many by its predictors.
_POPULATION, _GENERATIONS = 50, 400


def local_search(space: Space, seed: int) -> ArchitectureSampler:
    """One-gene mutation of the current front, without repeats; ten random architectures first."""
    genome = Genome(space)
    reader = Reader(genome, None)

    def propose(study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator) -> Iterator[Proposal]:
        history = reader.read(study)
        if len(history.rows) >= _RANDOM:
            order, front = history.order()
            for _ in range(200):
                parent = history.rows[order[[rng.integers(front)]]]
                yield Proposal(genome.decode(genome.mutate(parent, np.ones(1), 0.0, rng)[0]))

    return ArchitectureSampler(space, propose, seed)


def ridge_search(space: Space, seed: int) -> ArchitectureSampler:
    """All one-gene neighbours of the front, ranked by two ridge regressions on one-hot genes."""
    genome = Genome(space)
    reader = Reader(genome, None)

    def propose(study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator) -> Iterator[Proposal]:
        history = reader.read(study)
        if len(history.rows) < _RANDOM:
            return
        order, front = history.order()
        parents = history.rows[order[:front]][rng.integers(front, size=100)]
        rows = genome.mutate(parents, np.ones(100), 0.0, rng)
        known, mean = genome.features(history.rows), history.losses.mean(axis=0)
        solved = np.linalg.solve(known.T @ known + np.eye(known.shape[1]), known.T @ (history.losses - mean))
        guess = (genome.features(rows) @ solved) / history.losses.std(axis=0)
        # A weight drawn at each trial spreads the choices along the front.
        weight = rng.random()
        for at in np.argsort(guess @ [weight, 1 - weight], kind="stable"):
            yield Proposal(genome.decode(rows[at]))

    return ArchitectureSampler(space, propose, seed)


def linas_search(space: Space, seed: int) -> ArchitectureSampler:
    """LINAS (Cummings et al. 2022): fifty at a time, by NSGA-II on support vector regressions."""
    genome = Genome(space)
    reader = Reader(genome, None)
    batch: list[np.ndarray] = []

    def propose(study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator) -> Iterator[Proposal]:
        history = reader.read(study)
        if len(history.rows) < _POPULATION:
            return
        if not batch:
            batch.extend(_promising(genome, history, rng))
        while batch:
            yield Proposal(genome.decode(batch.pop(0)))

    return ArchitectureSampler(space, propose, seed)


def _promising(genome: Genome, history: History, rng: np.random.Generator) -> list[np.ndarray]:
    """Return as many new rows as a population, the best by NSGA-II on predictions."""
    known = genome.features(history.rows)
    scaled = (history.losses - history.losses.mean(axis=0)) / history.losses.std(axis=0)
    predictors = [make_pipeline(StandardScaler(), SVR()).fit(known, losses) for losses in scaled.T]

    def predicted(rows: Rows) -> np.ndarray:
        features = genome.features(rows)
        return np.column_stack([predictor.predict(features) for predictor in predictors])

    parents = history.rows[history.order()[0][:_POPULATION]]
    losses, seen = predicted(parents), {}
    for _ in range(_GENERATIONS):
        mothers, fathers = (parents[rng.integers(len(parents), size=_POPULATION)] for _ in "12")
        children = genome.mutate(genome.cross(mothers, fathers, rng), np.ones(_POPULATION), 0.0, rng)
        rows, first = np.unique(np.concatenate([parents, children]), axis=0, return_index=True)
        losses = np.concatenate([losses, predicted(children)])[first]
        seen |= {row.tobytes(): (row, loss) for row, loss in zip(rows, losses, strict=True)}
        best = _survivors(losses, _POPULATION)
        parents, losses = rows[best], losses[best]
    new = [pair for name, pair in seen.items() if name not in history.taken]
    best = _survivors(np.array([loss for _, loss in new]), _POPULATION)
    return [new[at][0] for at in best]


def _survivors(losses: np.ndarray, count: int) -> np.ndarray:
    """Return the indices of the best by rank, and within one by crowding distance (Deb 2002)."""
    front = ranks(losses)
    crowding = np.zeros(len(losses))
    for rank in np.unique(front):
        own = np.flatnonzero(front == rank)
        for values in losses[own].T:
            order = np.argsort(values, kind="stable")
            gaps = np.full(len(own), np.inf)
            spread = np.ptp(values) or 1.0
            gaps[order[1:-1]] = (values[order[2:]] - values[order[:-2]]) / spread
            crowding[own] += gaps
    return np.lexsort([-crowding, front])[:count]
