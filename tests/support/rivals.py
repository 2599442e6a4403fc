"""Searches without a model, or with the simplest one: what any sampler of ours must be ahead of."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from dynnas.samplers.architecture import ArchitectureSampler, Proposal
from dynnas.samplers.genome import Genome
from dynnas.samplers.history import Reader
from dynnas.space.space import Space

_RANDOM = 10


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
