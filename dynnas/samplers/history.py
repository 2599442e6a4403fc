"""The trials of a study as arrays, for the built-in samplers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import moocore
import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dynnas.errors import SpaceError
from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome
from dynnas.samplers.trials import ERROR, KEY, MOVE, REJECTED, SCREENED, metrics_of

# The limit that a failed evaluation breaks.
FAILED = "failed"


@dataclass(frozen=True)
class History:
    """The architectures of a study so far, in the order of their trials.

    Attributes:
        rows: [finished, genes] those with a result, also of a rejection.
        losses: [finished, objectives] the smaller the better; nan where a limit or a prediction spared the
            evaluation, and where it failed.
        maximised: [objectives] bool: whether the study maximises them.
        violations: [finished] by limit, relative; above 0 where the limit is broken, nan where not known.
            Where evaluations failed, that is one more limit: 1 of these, -1 of others.
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
        """Return which results were evaluated in full, within every known limit: [finished] bool."""
        kept = np.isfinite(self.losses).all(axis=1)
        for values in self.violations.values():
            kept &= ~(values > 0)
        return kept

    @property
    def failed(self) -> np.ndarray:
        """Return whose evaluation failed: [finished] bool."""
        return self.violations[FAILED] > 0 if FAILED in self.violations else np.zeros(len(self.rows), bool)

    @property
    def stalled(self) -> int:
        """Return the number of results since the last one that is on the front."""
        feasible = np.flatnonzero(self.feasible)
        return len(self.rows) - 1 - int(feasible[nondominated(self.losses[feasible])].max(initial=-1))

    def order(self) -> tuple[np.ndarray, int]:
        """Return indices of the results, the best first, and how many of them are the front.

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


@dataclass(frozen=True)
class _Result:
    """The result of one finished trial."""

    row: np.ndarray
    name: bytes
    losses: np.ndarray
    violations: Mapping[str, float]
    move: str | None
    ended: datetime | None


class Reader:
    """A reader of histories that remembers finished trials, which do not change."""

    def __init__(self, genome: Genome, goal: Goal | None) -> None:
        self._genome = genome
        self._goal = goal
        self._results: dict[int, _Result] = {}

    def read(self, study: optuna.Study) -> History:
        """Return the history of `study`."""
        signs = np.array([-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in study.directions])
        finished: dict[bytes, _Result] = {}
        pending: dict[bytes, np.ndarray] = {}
        taken = set()
        for trial in study.get_trials(deepcopy=False):
            if trial.state == TrialState.COMPLETE:
                result = self._result(trial, signs)
                if result is not None:
                    taken.add(result.name)
                    # One that was tried again under looser limits counts by its last result.
                    finished[result.name] = result
                continue
            if _has_failed(trial):
                result = self._result(trial, signs)
                if result is not None:
                    taken.add(result.name)
                    finished.setdefault(result.name, result)
                continue
            row = self._row(trial)
            if row is not None:
                taken.add(row.tobytes())
                if not trial.state.is_finished():
                    pending[row.tobytes()] = row
        results = tuple(finished.values())
        waiting = [row for name, row in pending.items() if name not in finished]
        genes = len(self._genome.counts)
        names = dict.fromkeys(name for result in results for name in result.violations)
        violations = {
            name: np.array([result.violations.get(name, np.nan) for result in results], dtype=float)
            for name in names
        }
        if FAILED in violations:
            evaluated = np.array([np.isfinite(result.losses).all() for result in results])
            violations[FAILED][evaluated] = -1.0
        return History(
            rows=np.array([result.row for result in results], dtype=np.int16).reshape(-1, genes),
            losses=np.array([result.losses for result in results], dtype=float).reshape(-1, len(signs)),
            maximised=signs < 0,
            violations=violations,
            moves=tuple(result.move for result in results),
            pending=np.array(waiting, dtype=np.int16).reshape(-1, genes),
            taken=frozenset(taken),
        )

    def _result(self, trial: FrozenTrial, signs: np.ndarray) -> _Result | None:
        known = self._results.get(trial.number)
        # The time tells apart trials of different studies, whose numbers are the same.
        if known is not None and known.ended == trial.datetime_complete:
            return known
        row = self._row(trial)
        if row is None:
            return None
        failed = trial.state == TrialState.FAIL
        spared = failed or not trial.user_attrs.keys().isdisjoint((REJECTED, SCREENED, ERROR))
        losses = np.full(len(signs), np.nan) if spared else signs * np.clip(trial.values, -1e300, 1e300)
        violations: Mapping[str, float]
        if failed:
            violations = {FAILED: 1.0}
        elif self._goal:
            violations = self._goal.violations(metrics_of(trial, self._goal))
        else:
            violations = trial.constraints
        move = trial.user_attrs.get(MOVE)
        result = _Result(row, row.tobytes(), losses, violations, move, trial.datetime_complete)
        self._results[trial.number] = result
        return result

    def _row(self, trial: FrozenTrial) -> np.ndarray | None:
        """Return the row of a trial's architecture.

        It is None for one that has no values yet, or not of this space.
        """
        try:
            return self._genome.encode(self._genome.space.architecture(trial.params))
        except SpaceError:
            return None


def _has_failed(trial: FrozenTrial) -> bool:
    """Return whether a trial says that its architecture fails; an interrupted one of dynnas says nothing."""
    return trial.state == TrialState.FAIL and (ERROR in trial.user_attrs or KEY not in trial.user_attrs)


def nondominated(losses: np.ndarray) -> np.ndarray:
    """Return which points no other one dominates, [points] bool; of equal ones the first."""
    if not len(losses):
        return np.zeros(0, dtype=bool)
    return moocore.is_nondominated(losses)


def ranks(losses: np.ndarray) -> np.ndarray:
    """Return the rank of each point: [points] 0 for the front, 1 for the front without it, and so on."""
    return moocore.pareto_rank(losses) if len(losses) else np.zeros(0, dtype=int)
