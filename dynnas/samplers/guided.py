"""Evolution screened by a surrogate: of many relatives of the front, the most promising is evaluated."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from dynnas.samplers.architecture import Proposal
from dynnas.samplers.context import Ground
from dynnas.samplers.genome import Rows
from dynnas.samplers.model.acquisition import Fits, Outlook

# Trials before the surrogate has a say.
RANDOM = 10

# Relatives of the front at first; then those of the most promising, so often.
_RELATIVES, _AGAIN, _ROUNDS = 700, 150, 2
_PROMISING = 15
_ELITE = 40

# How relatives come about: one, two, or up to three genes changed, two parents crossed; the rest is random.
_SHARES = {"one": 0.4, "two": 0.15, "three": 0.1, "crossed": 0.25}
_LOCAL = 0.5

# Number of finalists whose cheap metrics are computed exactly.
_SHORTLIST = 48


class Guided:
    """Proposes the architectures that a surrogate expects to add most to the front's hypervolume.

    After a random start, each proposal is the best of about a thousand architectures: mutants and children of
    the front, of other good ones, and in two more rounds of the most promising of these, beside random ones.
    Their worth is the expected hypervolume improvement (`improvement.py`) under Gaussian processes
    (`surrogate.py`), times the probability of keeping the limits. Metrics that are cheap are not
    learned but computed, for the few that are in question.
    """

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._fits = Fits()

    def __call__(
        self, study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Yield the most promising first."""
        history = self._ground.reader.read(study)
        if len(history.rows) < RANDOM:
            rows = self._ground.source.sample(_SHORTLIST, rng)
            rows = rows if self._ground.known is None else rows[self._ground.known.worth_trying(rows)]
        else:
            rows = self._screened(
                Outlook(self._ground.genome, history, self._ground.known, self._fits, rng), rng
            )
        for row in rows:
            yield Proposal(self._ground.genome.decode(row))

    def _screened(self, outlook: Outlook, rng: np.random.Generator) -> Rows:
        """Return new rows, the most promising first."""
        history = outlook.history
        order, front = history.order()
        elite = history.rows[order]
        seen = set(history.taken)
        pool = _new(self._relatives(elite[:front], elite[:_ELITE], _RELATIVES, rng), seen)
        worth = outlook.worth(pool)
        for _ in range(_ROUNDS):
            best = pool[np.argsort(-worth, kind="stable")[:_PROMISING]]
            if not len(best):
                break
            more = _new(self._relatives(best, best, _AGAIN, rng), seen)
            pool, worth = np.concatenate([pool, more]), np.concatenate([worth, outlook.worth(more)])
        best = np.argsort(-worth, kind="stable")[:_SHORTLIST]
        if self._ground.known is not None and len(best):
            exact = outlook.exact_worth(pool[best])
            best = best[np.argsort(-exact, kind="stable")]
        return pool[best]

    def _relatives(self, front: Rows, elite: Rows, count: int, rng: np.random.Generator) -> Rows:
        genome = self._ground.genome
        one, two, three, crossed = (int(share * count) for share in _SHARES.values())

        def drawn(rows: Rows, number: int) -> Rows:
            return rows[rng.integers(len(rows), size=number)]

        made = np.concatenate(
            [
                genome.mutate(drawn(front, one), np.ones(one), _LOCAL, rng),
                genome.mutate(drawn(front, two), np.full(two, 2), _LOCAL, rng),
                genome.mutate(drawn(elite, three), rng.integers(1, 4, size=three), _LOCAL, rng),
                genome.cross(drawn(front, crossed), drawn(elite, crossed), rng),
                self._ground.source.sample(count - one - two - three - crossed, rng),
            ]
        )
        return self._ground.listed.nearest(made, rng) if self._ground.listed else made


def _new(rows: Rows, seen: set[bytes]) -> Rows:
    """Return the rows that are not in `seen`, each once, and add them to it."""
    kept = []
    for row in rows:
        name = row.tobytes()
        if name not in seen:
            seen.add(name)
            kept.append(row)
    return np.array(kept, dtype=np.int16).reshape(-1, rows.shape[1])
