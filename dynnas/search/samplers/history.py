"""What the trials of a study say, as arrays that our samplers compute with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import moocore
import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dynnas.errors import SpaceError
from dynnas.search.goal import Goal
from dynnas.search.records import ERROR, KEY, REJECTED, SCREENED, metrics_of
from dynnas.search.samplers.architecture import MOVE
from dynnas.search.samplers.genome import Genome


@dataclass(frozen=True)
class History:
    """The architectures of a study so far, in the order of their trials.

    Attributes:
        rows: [finished, genes] those with a result, also of a rejection.
        losses: [finished, objectives] the smaller the better; nan where a limit or a prediction spared the
            evaluation.
        maximised: [objectives] bool: whether the study maximises them.
        violations: [finished] by limit, relative; above 0 where the limit is broken, nan where not known.
        moves: [finished] how each was made, where the sampler has noted it.
        pending: [running, genes] those that are being evaluated.
        taken: rows, as bytes, of everything that was ever proposed.
    """

    rows: np.ndarray
    losses: np.ndarray
    maximised: np.ndarray
    violations: Mapping[str, np.ndarray]
    moves: tuple[str | None, ...]
    pending: np.ndarray
    taken: frozenset[bytes]

    @property
    def feasible(self) -> np.ndarray:
        """[finished] bool: evaluated in full, and within every known limit."""
        kept = np.isfinite(self.losses).all(axis=1)
        for values in self.violations.values():
            kept &= ~(values > 0)
        return kept

    def order(self) -> tuple[np.ndarray, int]:
        """Indices of the results, the best first, and how many of them are the front.

        The feasible ones by how many fronts are before theirs; then the others, by how much they break.
        """
        feasible = np.flatnonzero(self.feasible)
        others = np.flatnonzero(~self.feasible)
        front = ranks(self.losses[feasible])
        broken = np.zeros(len(self.rows))
        for values in self.violations.values():
            broken += np.maximum(np.nan_to_num(values), 0.0)
        order = np.concatenate(
            [
                feasible[np.argsort(front, kind="stable")],
                others[np.argsort(broken[others], kind="stable")],
            ]
        )
        return order, max(int((front == 0).sum()), 1)


class Reader:
    """Reads histories, and remembers the rows of architectures, which do not change."""

    def __init__(self, genome: Genome, goal: Goal | None) -> None:
        self._genome = genome
        self._goal = goal
        self._rows: dict[str, np.ndarray | None] = {}

    def read(self, study: optuna.Study) -> History:
        """The history of `study`."""
        signs = np.array([-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in study.directions])
        finished: dict[bytes, tuple[np.ndarray, FrozenTrial]] = {}
        pending: dict[bytes, np.ndarray] = {}
        taken = set()
        for trial in study.get_trials(deepcopy=False):
            row = self._row(trial)
            if row is None:
                continue
            taken.add(row.tobytes())
            if trial.state == TrialState.COMPLETE:
                # One that was tried again under looser limits counts by its last result.
                finished[row.tobytes()] = row, trial
            elif not trial.state.is_finished():
                pending[row.tobytes()] = row
        rows = [row for row, _ in finished.values()]
        trials = [trial for _, trial in finished.values()]
        losses = [self._losses(trial, signs) for trial in trials]
        waiting = [row for name, row in pending.items() if name not in finished]
        genes = len(self._genome.counts)
        return History(
            rows=np.array(rows, dtype=np.int16).reshape(-1, genes),
            losses=np.array(losses, dtype=float).reshape(-1, len(signs)),
            maximised=signs < 0,
            violations=self._violations(trials),
            moves=tuple(trial.system_attrs.get(MOVE) for trial in trials),
            pending=np.array(waiting, dtype=np.int16).reshape(-1, genes),
            taken=frozenset(taken),
        )

    def _row(self, trial: FrozenTrial) -> np.ndarray | None:
        """The row of a trial's architecture; None for one that has no values yet, or not of this space."""
        key = trial.user_attrs.get(KEY)
        if key is not None and key in self._rows:
            return self._rows[key]
        try:
            row = self._genome.encode(self._genome.space.architecture(trial.params))
        except SpaceError:
            return None
        if key is not None:
            self._rows[key] = row
        return row

    def _losses(self, trial: FrozenTrial, signs: np.ndarray) -> np.ndarray:
        if not trial.user_attrs.keys().isdisjoint((REJECTED, SCREENED, ERROR)):
            return np.full(len(signs), np.nan)
        return signs * np.clip(trial.values, -1e300, 1e300)

    def _violations(self, trials: list[FrozenTrial]) -> dict[str, np.ndarray]:
        found = [
            self._goal.violations(metrics_of(trial)) if self._goal else trial.constraints for trial in trials
        ]
        names = dict.fromkeys(name for violations in found for name in violations)
        return {
            name: np.array([violations.get(name, np.nan) for violations in found], dtype=float)
            for name in names
        }


def nondominated(losses: np.ndarray) -> np.ndarray:
    """[points] bool: those that no other one beats; of equal ones the first."""
    if not len(losses):
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(losses)


def ranks(losses: np.ndarray) -> np.ndarray:
    """[points] 0 for the front, 1 for the front without it, and so on."""
    return moocore.pareto_rank(losses) if len(losses) else np.zeros(0, dtype=int)
