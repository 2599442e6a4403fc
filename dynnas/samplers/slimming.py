"""Greedy slimming (AutoSlim, Yu and Huang 2019): from the largest network down, one width at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import optuna
from optuna.trial import FrozenTrial

from dynnas.errors import StudyError
from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import Proposal, Stand
from dynnas.samplers.genome import Genome, Rows
from dynnas.samplers.history import History, Reader
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest
from dynnas.space.space import Space

# Genes whose names end so are widths. Layers that share one are one gene: they move together.
_WIDTHS = (".width", ".expand")

Rule = Literal["loss", "rate"]


class Slimming:
    """Proposes the last kept network with each gene one value smaller; then keeps one of these.

    By the rule `loss`, as in the paper, the one with the least loss in the first objective; by `rate` the one
    that loses least for what it saves in the second. Of networks that a limit spared the evaluation, the one
    nearest to the limits. Nothing but the trials says how far it is. The path ends where no gene can shrink.

    Genes are the widths, or in a space without any, every gene whose values are numbers; the others stay as
    they are in the largest network. A search waits for all networks of a step, and ends with the path; where
    that is not asked for (`stand`), a step begins from the best so far, and random networks follow the path.
    """

    def __init__(self, space: Space, goal: Goal | None, rule: Rule) -> None:
        self._genome = Genome(space)
        self._reader = Reader(self._genome, goal)
        self._rule = rule
        self._largest = self._genome.encode(largest(space))
        numbers = [column for column in self._genome.choices if space.genes[column].ordered]
        widths = [column for column in numbers if space.genes[column].name.endswith(_WIDTHS)]
        self._columns = widths or numbers
        if not self._columns:
            raise StudyError(
                f"sampler: autoslim shrinks widths or other numbers; space {space.name!r} has only texts"
            )

    def __call__(
        self, study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Yield the untried networks of the current step, in the order of the genes."""
        if len(study.directions) != 2:
            raise StudyError("sampler: autoslim needs two objectives: what is lost, then what is saved")
        _, untried = self._walk(self._reader.read(study))
        for row in untried:
            yield Proposal(self._genome.decode(row))

    def stand(self, study: optuna.Study) -> Stand:
        """Return whether the step has something to try, waits for results, or was the last."""
        history = self._reader.read(study)
        kept, untried = self._walk(history, patient=True)
        if len(untried):
            return "ready"
        return "waiting" if self._pending(history, self._smaller(kept[-1])) else "ended"

    def path(self, study: optuna.Study) -> tuple[Architecture, ...]:
        """Return the networks that were kept, the largest first."""
        kept, _ = self._walk(self._reader.read(study))
        return tuple(self._genome.decode(row) for row in kept)

    def _walk(self, history: History, patient: bool = False) -> tuple[list[np.ndarray], Rows]:
        """Return the networks that were kept, and the untried ones of the step after them.

        Args:
            history: of the study.
            patient: keep none of a step before all of it is known.
        """
        evaluated = np.flatnonzero(~history.failed)
        places = {history.rows[at].tobytes(): int(at) for at in evaluated}
        if self._largest.tobytes() not in history.taken:
            return [], self._largest[None]
        kept = [self._largest]
        while True:
            smaller = self._smaller(kept[-1])
            untried = [row for row in smaller if row.tobytes() not in history.taken]
            results = [places[row.tobytes()] for row in smaller if row.tobytes() in places]
            if untried or not results or (patient and self._pending(history, smaller)):
                return kept, np.array(untried, dtype=np.int16).reshape(-1, len(self._largest))
            before = places.get(kept[-1].tobytes())
            best = min(results, key=lambda at: self._rank(history, before, at))
            kept.append(history.rows[best])

    @staticmethod
    def _pending(history: History, rows: Rows) -> bool:
        """Return whether any of `rows` is being evaluated."""
        running = {row.tobytes() for row in history.pending}
        return any(row.tobytes() in running for row in rows)

    def _smaller(self, row: np.ndarray) -> Rows:
        """Return the row with each gene in turn one value smaller."""
        columns = [column for column in self._columns if row[column] > 0]
        rows = np.repeat(row[None], len(columns), axis=0)
        rows[np.arange(len(columns)), columns] -= 1
        return self._genome.completed(rows, np.repeat(self._largest[None], len(columns), axis=0))

    def _rank(self, history: History, before: int | None, at: int) -> tuple[float, ...]:
        """Return the rank of a network; the search goes on from the smallest."""
        loss, cost = history.losses[at]
        if np.isnan(loss):
            broken = sum(np.nan_to_num(np.maximum(values[at], 0.0)) for values in history.violations.values())
            return 1.0, float(broken), 0.0
        if self._rule == "loss" or before is None or np.isnan(history.losses[before]).any():
            return 0.0, float(loss), float(cost)
        lost, saved = loss - history.losses[before, 0], history.losses[before, 1] - cost
        if lost <= 0:
            return 0.0, float(lost), float(cost)
        return 0.0, float(lost / saved) if saved > 0 else np.inf, float(cost)
