"""A local search on the Pareto set: small changes to members of the front, mostly those that have paid."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from dynnas.samplers.architecture import Proposal
from dynnas.samplers.context import Ground
from dynnas.samplers.genome import Rows
from dynnas.samplers.history import History

_RANDOM = 10

# Number of parents: the front, or this many of the best where it is smaller.
_PARENTS = 6

# By name, how a child differs: a step of one ordered gene, any change of one, of two, or a cross of two
# parents, sometimes with a change.
MOVES = ("step", "change", "two changes", "cross")

# Number of earlier trials by which moves are judged, and the least rate of a move.
_REMEMBERED = 120
_LEAST = 0.08

# Children that are drawn until one is new and keeps the cheap limits.
_CHILDREN = 48


class Evolution:
    """Proposes children of the front, by the moves that have led onto it most often."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    def __call__(
        self, study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Yield children in the order in which they were drawn."""
        history = self._ground.reader.read(study)
        if len(history.rows) < _RANDOM:
            rows = self._ground.source.sample(_CHILDREN, rng)
            moves = np.full(len(rows), "")
        else:
            order, front = history.order()
            parents = history.rows[order[: max(front, min(_PARENTS, len(order)))]]
            moves = rng.choice(MOVES, size=_CHILDREN, p=move_rates(history))
            rows = np.concatenate([self._child(str(move), parents, rng) for move in moves])
            rows = self._ground.listed.nearest(rows, history.taken, rng) if self._ground.listed else rows
        kept = range(len(rows)) if self._ground.known is None else self._ground.known.worth_trying(rows)
        for at in kept:
            yield Proposal(self._ground.genome.decode(rows[at]), str(moves[at]))

    def _child(self, move: str, parents: Rows, rng: np.random.Generator) -> Rows:
        """Return one child as a row, [1, genes]."""
        mother, father = (parents[[rng.integers(len(parents))]] for _ in "12")
        if move == "cross":
            child = self._ground.genome.cross(mother, father, rng)
            return self._ground.genome.mutate(child, np.ones(1), 0.5, rng) if rng.random() < 0.5 else child
        changes = np.full(1, 2 if move == "two changes" else 1)
        return self._ground.genome.mutate(mother, changes, 1.0 if move == "step" else 0.0, rng)


def move_rates(history: History) -> np.ndarray:
    """Return the rate of each of `MOVES`: in proportion to its children that entered the front."""
    tried, paid = np.full(len(MOVES), 4.0), np.full(len(MOVES), 2.0)
    feasible = history.feasible
    marked = [at for at, move in enumerate(history.moves) if move in MOVES][-_REMEMBERED:]
    for at in marked:
        move = MOVES.index(str(history.moves[at]))
        before = history.losses[:at][feasible[:at]]
        beaten = (before <= history.losses[at]).all(axis=1).any()
        tried[move] += 1
        paid[move] += bool(feasible[at] and not beaten)
    rates = paid / tried
    return _LEAST + (1 - _LEAST * len(MOVES)) * rates / rates.sum()
