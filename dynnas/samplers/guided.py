"""Evolution screened by a surrogate: of many relatives of the front, the most promising is evaluated."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from dynnas.samplers.architecture import Proposal
from dynnas.samplers.context import Ground
from dynnas.samplers.genome import Rows
from dynnas.samplers.history import History
from dynnas.samplers.model.acquisition import Fits, Outlook
from dynnas.threads import one_blas_thread

# Trials before the surrogate has a say, and where another study gives it forecasts.
RANDOM, _RANDOM_WITH_FORECASTS = 10, 4

# Number of relatives of the front; then of relatives of the most promising, and the number of such rounds.
_RELATIVES, _AGAIN, _ROUNDS = 700, 150, 2
_PROMISING = 15
_ELITE = 40

# How relatives come about: one, two, or up to three genes changed, two parents crossed; the rest is random.
_SHARES = {"one": 0.4, "two": 0.15, "three": 0.1, "crossed": 0.25}
_LOCAL = 0.5

# Number of results in a row off the front after which every other proposal is one that no model has chosen:
# where the model is wrong, plain local search goes on. How many of those differ from a member of the front in
# one gene, and in two; the others come from anywhere, so that every part of the space is reached in the end.
_PATIENCE, _EVERY, _ONE, _TWO = 6, 2, 0.75, 0.15

# How often, where all neighbours of the front were tried, those of the results behind it are taken; otherwise
# they are neighbours of the front by two genes.
_BEHIND = 0.5
_NEIGHBOURS = 64

# Number of neighbours of the front that are looked at: all of them, unless the front or the space is large.
_NEAR = 3000

# Number of finalists whose cheap metrics are computed exactly.
_SHORTLIST = 48


class Guided:
    """Proposes the architectures that a surrogate expects to add most to the front's hypervolume.

    After a random start, each proposal is the best of about a thousand architectures: mutants and children of
    the front, of other good ones, and in two more rounds of the most promising of these, beside random ones.
    Their worth is the expected hypervolume improvement (`improvement.py`) under Gaussian processes
    (`surrogate.py`) of warped objectives (`warp.py`), times the probability of keeping the limits. Metrics
    that are cheap are computed for the few that are in question. Where nothing new comes onto the front,
    every other proposal is one that no model has chosen, most of them neighbours of the front.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._fits = Fits()

    def __call__(
        self, study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Yield the most promising first."""
        for row in self.rows(self._ground.reader.read(study), rng):
            yield Proposal(self._ground.genome.decode(row))

    def rows(self, history: History, rng: np.random.Generator) -> Rows:
        """Return what to evaluate after `history`, the most promising first."""
        with one_blas_thread():
            return self._rows(history, rng)

    def _rows(self, history: History, rng: np.random.Generator) -> Rows:
        known = self._ground.known
        rows = np.zeros((0, len(self._ground.genome.counts)), dtype=np.int16)
        if len(history.rows) < (_RANDOM_WITH_FORECASTS if self._ground.forecasts else RANDOM):
            rows = self._ground.source.sample(_SHORTLIST, rng)
        elif history.stalled >= _PATIENCE and len(history.rows) % _EVERY == 1:
            rows = self._unscreened(history, rng)
        if not len(rows):
            ground = self._ground
            outlook = Outlook(
                ground.genome, history, known, self._fits, rng, ground.goal, ground.forecasts, ground.errors
            )
            return self._screened(outlook, rng)
        return rows if known is None else rows[known.worth_trying(rows)]

    def _unscreened(self, history: History, rng: np.random.Generator) -> Rows:
        """Return new rows that no model has chosen: neighbours of the front, or from anywhere."""
        kind, taken = rng.random(), history.taken
        rows = np.zeros((0, len(self._ground.genome.counts)), dtype=np.int16)
        if kind < _ONE + _TWO:
            groups = [history.rows[group] for group in history.ranked()]
            if kind < _ONE:
                rows = self._untried(groups, taken, rng)
            near = self._neighbours(groups[0], rng)
            if not len(rows) and len(near):
                near = near[rng.integers(len(near), size=_NEIGHBOURS)]
                second = self._ground.genome.mutate(near, np.ones(len(near)), _LOCAL, rng)
                rows = _new(self._listed(second, taken, rng), set(taken))
        else:
            rows = _new(self._ground.source.sample(_NEIGHBOURS, rng), set(taken))
        return rows[rng.permutation(len(rows))[:_NEIGHBOURS]]

    def _untried(self, groups: Sequence[Rows], taken: Collection[bytes], rng: np.random.Generator) -> Rows:
        """Return new neighbours of the front; where all were tried, half of the time of what is behind it.

        Of a front of few networks all neighbours are soon tried, and what is better may lie beyond them.
        """
        for group in groups if rng.random() < _BEHIND else groups[:1]:
            near = self._neighbours(group, rng)
            near = near[rng.permutation(len(near))]
            some = near[:_NEIGHBOURS] if self._ground.listed else near
            rows = _new(self._listed(some, taken, rng), set(taken))
            if len(rows):
                return rows
        return groups[0][:0]

    def _neighbours(self, front: Rows, rng: np.random.Generator) -> Rows:
        """Return all rows that differ from one of `front` in one gene; of a long front, those of some."""
        genome = self._ground.genome
        most = max(_NEAR // max(int((genome.counts - 1).sum()), 1), 1)
        return genome.neighbours(front[rng.permutation(len(front))[:most]], rng)

    def _listed(self, rows: Rows, taken: Collection[bytes], rng: np.random.Generator) -> Rows:
        return self._ground.listed.nearest(rows, taken, rng) if self._ground.listed else rows

    def _screened(self, outlook: Outlook, rng: np.random.Generator) -> Rows:
        """Return new rows, the most promising first."""
        history = outlook.history
        order, front = history.order()
        elite = history.rows[order]
        seen = set(history.taken)
        pool = _new(self._relatives(elite[:front], elite[:_ELITE], _RELATIVES, seen, rng), seen)
        worth = outlook.worth(pool)
        for _ in range(_ROUNDS):
            best = pool[np.argsort(-worth, kind="stable")[:_PROMISING]]
            if not len(best):
                break
            more = _new(self._relatives(best, best, _AGAIN, seen, rng), seen)
            pool, worth = np.concatenate([pool, more]), np.concatenate([worth, outlook.worth(more)])
        best = np.argsort(-worth, kind="stable")[:_SHORTLIST]
        if self._ground.known is not None and len(best):
            exact = outlook.exact_worth(pool[best])
            best = best[np.argsort(-exact, kind="stable")]
        return pool[best]

    def _relatives(
        self, front: Rows, elite: Rows, count: int, taken: Collection[bytes], rng: np.random.Generator
    ) -> Rows:
        genome = self._ground.genome
        one, two, three, crossed = (int(share * count) for share in _SHARES.values())

        def drawn(rows: Rows, number: int) -> Rows:
            return rows[rng.integers(len(rows), size=number)]

        anywhere = count - one - two - three - crossed
        near = self._neighbours(front, rng)
        near = _new(near[rng.permutation(len(near))], set(taken))[:one]
        two += one - len(near)
        made = np.concatenate(
            [
                near,
                genome.mutate(drawn(front, two), np.full(two, 2), _LOCAL, rng),
                genome.mutate(drawn(elite, three), rng.integers(1, 4, size=three), _LOCAL, rng),
                genome.cross(drawn(front, crossed), drawn(elite, crossed), rng),
                self._ground.source.sample(anywhere, rng),
            ]
        )
        return self._listed(made, taken, rng)


def _new(rows: Rows, seen: set[bytes]) -> Rows:
    """Return the rows that are not in `seen`, each once, and add them to it."""
    kept = []
    for row in rows:
        name = row.tobytes()
        if name not in seen:
            seen.add(name)
            kept.append(row)
    return np.array(kept, dtype=np.int16).reshape(-1, rows.shape[1])
