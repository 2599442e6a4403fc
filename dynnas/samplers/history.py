"""The trials of a study as arrays, for the built-in samplers."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import moocore
import numpy as np
import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from dynnas.errors import SpaceError
from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome
from dynnas.samplers.trials import ERROR, KEY, MOVE, REJECTED, SCREENED, Unread, metrics_of

# The limit that a failed evaluation breaks.
FAILED = "failed"

# What an infinite loss is put at.
INFINITE = 1e300


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

    def ranked(self) -> list[np.ndarray]:
        """Return indices of the results in groups, the best first.

        The feasible ones by how many fronts are before theirs, the front first; then each of the others, by
        how much they break.
        """
        feasible = np.flatnonzero(self.feasible)
        others = np.flatnonzero(~self.feasible)
        front = ranks(self.losses[feasible])
        broken = np.zeros(len(self.rows))
        for values in self.violations.values():
            broken += np.maximum(np.nan_to_num(values), 0.0)
        worst_last = others[np.argsort(broken[others], kind="stable")]
        groups = [feasible[front == rank] for rank in range(front.max(initial=-1) + 1)]
        return [*groups, *worst_last[:, None]]

    def order(self) -> tuple[np.ndarray, int]:
        """Return indices of the results, the best first, and how many of them are the front."""
        groups = self.ranked()
        return np.concatenate([np.zeros(0, np.intp), *groups]), len(groups[0]) if groups else 1


@dataclass(frozen=True)
class _Result:
    """The result of one finished trial."""

    row: np.ndarray
    name: bytes
    losses: np.ndarray
    violations: Mapping[str, float]
    move: str | None
    failed: bool


class _Results:
    """Results by architecture, as arrays that grow."""

    def __init__(self, genes: int, objectives: int) -> None:
        self._places: dict[bytes, int] = {}
        self.rows = np.zeros((0, genes), dtype=np.int16)
        self.losses = np.zeros((0, objectives))
        self.violations: list[Mapping[str, float]] = []
        self.moves: list[str | None] = []

    def __contains__(self, name: bytes) -> bool:
        return name in self._places

    def copy(self) -> _Results:
        """Return results to which more can be added."""
        copied = copy.copy(self)
        copied._places, copied.losses = dict(self._places), self.losses.copy()
        copied.violations, copied.moves = list(self.violations), list(self.moves)
        return copied

    def add(self, results: Sequence[_Result]) -> None:
        """Add results; one that was tried again under looser limits counts by its last result."""
        rows, losses = [], []
        for result in results:
            place = self._places.get(result.name)
            if place is None:
                self._places[result.name] = len(self._places)
                rows.append(result.row)
                losses.append(result.losses)
                self.violations.append(result.violations)
                self.moves.append(result.move)
            elif result.failed:
                continue
            else:
                self.violations[place], self.moves[place] = result.violations, result.move
                if place < len(self.losses):
                    self.losses[place] = result.losses
                else:
                    losses[place - len(self.losses)] = result.losses
        if rows:
            self.rows = np.concatenate([self.rows, np.array(rows, dtype=np.int16)])
            self.losses = np.concatenate([self.losses, np.array(losses, dtype=float)])

    def violations_by_name(self) -> dict[str, np.ndarray]:
        """Return for every limit [results], nan where it is not known."""
        names = dict.fromkeys(name for violations in self.violations for name in violations)
        found = {
            name: np.array([violations.get(name, np.nan) for violations in self.violations], dtype=float)
            for name in names
        }
        if FAILED in found:
            found[FAILED][np.isfinite(self.losses).all(axis=1)] = -1.0
        return found


class Reader:
    """A reader of histories that remembers finished trials, which do not change."""

    def __init__(self, genome: Genome, goal: Goal | None) -> None:
        self._genome = genome
        self._goal = goal
        self._unread = Unread()
        self._results: _Results | None = None
        self._taken: set[bytes] = set()

    def read(self, study: optuna.Study) -> History:
        """Return the history of `study`."""
        signs = np.array([-1.0 if way == StudyDirection.MAXIMIZE else 1.0 for way in study.directions])
        other, finished, rest = self._unread.next(study)
        if other or self._results is None:
            self._results, self._taken = _Results(len(self._genome.counts), len(signs)), set()
        self._absorb(finished, signs, self._results, self._taken)
        results, taken = self._results, self._taken
        if rest:
            results, taken = results.copy(), set(taken)
            self._absorb(rest, signs, results, taken)
        running = {
            row.tobytes(): row
            for trial in rest
            if not trial.state.is_finished() and (row := self._row(trial)) is not None
        }
        waiting = [row for name, row in running.items() if name not in results]
        return History(
            rows=results.rows,
            losses=results.losses,
            maximised=signs < 0,
            violations=results.violations_by_name(),
            moves=tuple(results.moves),
            pending=np.array(waiting, dtype=np.int16).reshape(-1, len(self._genome.counts)),
            taken=frozenset(taken),
        )

    def _absorb(
        self, trials: Sequence[FrozenTrial], signs: np.ndarray, results: _Results, taken: set[bytes]
    ) -> None:
        """Add what `trials` say to `results` and `taken`."""
        found = []
        for trial in trials:
            row = self._row(trial)
            if row is not None:
                taken.add(row.tobytes())
                if trial.state == TrialState.COMPLETE or _has_failed(trial):
                    found.append(self._result(trial, row, signs))
        results.add(found)

    def _result(self, trial: FrozenTrial, row: np.ndarray, signs: np.ndarray) -> _Result:
        failed = trial.state == TrialState.FAIL
        spared = failed or not trial.user_attrs.keys().isdisjoint((REJECTED, SCREENED, ERROR))
        losses = np.full(len(signs), np.nan) if spared else signs * np.clip(trial.values, -INFINITE, INFINITE)
        violations: Mapping[str, float]
        if failed:
            violations = {FAILED: 1.0}
        elif self._goal:
            violations = self._goal.violations(metrics_of(trial, self._goal))
        else:
            violations = trial.constraints
        return _Result(row, row.tobytes(), losses, violations, trial.user_attrs.get(MOVE), failed)

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
