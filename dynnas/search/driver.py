"""The loop of a search: ask for an architecture, evaluate it, tell the study."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import optuna
from optuna.trial import Trial, TrialState

from dynnas.errors import StudyError
from dynnas.progress import Progress
from dynnas.search.evaluator import AnyEvaluator, Verdict, assess, listed_of
from dynnas.search.front import Candidate, Front
from dynnas.search.goal import Goal
from dynnas.search.records import (
    ARCHITECTURE,
    AVAILABLE,
    ERROR,
    KEY,
    REJECTED,
    RESERVED,
    SCREENED,
    candidates_of,
    finished_keys,
    proposed_keys,
    retry_interrupted,
    retry_rejected,
)
from dynnas.search.samplers import suggest
from dynnas.search.screening import Screen
from dynnas.search.stopping import Stopping
from dynnas.space import Space

logger = logging.getLogger(__name__)

_FAILURES_AT_START = 5
_FAILURES_IN_A_ROW = 10


@dataclass(frozen=True)
class Driver:
    """Runs one study; there must be no other for it."""

    study: optuna.Study
    space: Space
    evaluator: AnyEvaluator
    goal: Goal
    screen: Screen | None = None

    def candidates(self) -> list[Candidate]:
        """All that the study has found within the limits."""
        return candidates_of(self.study, self.space, self.goal)

    def front(self) -> Front:
        """The front of all that the study has found."""
        return Front.of(self.candidates(), self.goal.objectives)

    def run(
        self, trials: int, progress: Progress, name: str = "search", stopping: Stopping | None = None
    ) -> None:
        """Go on until `trials` candidates are finished, counting those of earlier runs, or none is left.

        Or until `stopping` says that it is enough.

        Candidates that an earlier run left behind, or rejected by limits that no longer hold, come first.
        (Samplers judge earlier trials by the limits of their day; fronts go by those of today.)

        Raises:
            StudyError: evaluations keep failing.
        """
        retry_interrupted(self.study)
        front = self.front()
        retry_rejected(self.study, self.goal, self._hopeless(front))
        done = len(finished_keys(self.study))
        failures = _Failures()
        watch = (stopping or Stopping()).watch(self.goal, self.candidates(), done)
        with progress.task(name, total=trials, done=min(done, trials)) as task:
            for _ in range(trials - done):
                if self._exhausted():
                    progress.message(f"{name}: all {self._size} architectures of the space were tried")
                    return
                if reason := watch.reason():
                    progress.message(f"{name}: {reason}")
                    return
                try:
                    found = self._trial(front)
                except KeyboardInterrupt:
                    retry_interrupted(self.study)
                    raise
                if isinstance(found, str):
                    progress.message(f"{name}: a candidate failed: {found}")
                    failures.count(found)
                else:
                    failures.reset()
                watch.saw(found if isinstance(found, Candidate) else None)
                if isinstance(found, Candidate):
                    front = Front.of((*front, found), self.goal.objectives)
                task.advance(1, note=_summary(front))

    def _exhausted(self) -> bool:
        waiting = self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        return not waiting and len(proposed_keys(self.study)) >= self._size

    @cached_property
    def _size(self) -> int:
        """How many architectures can be tried."""
        listed = listed_of(self.evaluator)
        return self.space.size if listed is None else len(listed)

    def _hopeless(self, front: Front) -> Verdict | None:
        screen = self.screen
        return (lambda metrics: screen.verdict(metrics, front)) if screen else None

    def _trial(self, front: Front) -> Candidate | str | None:
        """Run one trial: a candidate, the reason for which it failed, or None where it was turned down."""
        trial = self.study.ask()
        architecture = suggest(trial, self.space)
        if KEY not in trial.user_attrs:  # one that is tried again has them
            trial.set_user_attr(ARCHITECTURE, dict(architecture))
            trial.set_user_attr(KEY, architecture.key)
        try:
            found = assess(self.evaluator, architecture, self.goal, self._hopeless(front))
            _check_names(found.metrics)
        except Exception as error:  # whatever an evaluator does is the candidate's failure, not the search's
            logger.debug("trial %d (%s) failed", trial.number, architecture.key, exc_info=True)
            reason = f"{type(error).__name__}: {error}"[:1000]
            trial.set_user_attr(ERROR, reason)
            self.study.tell(trial, state=TrialState.FAIL)
            return reason
        for name, value in found.metrics.items():
            trial.set_user_attr(name, value)
        told = found.metrics
        if found.rejection:
            trial.set_user_attr(REJECTED, found.rejection)
        if self.screen and found.screened:
            trial.set_user_attr(SCREENED, found.screened)
            told = self.screen.stand_in(found.metrics)
        self._set_constraints(trial, told, found.rejection)
        self.study.tell(trial, self._values(told))
        if found.rejection or found.screened:
            return None
        return Candidate(architecture, found.metrics, trial.number)

    def _set_constraints(self, trial: Trial, metrics: Mapping[str, float], rejection: str | None) -> None:
        violations = self.goal.violations(metrics)
        if rejection and not any(violation > 0 for violation in violations.values()):
            violations[AVAILABLE] = 1.0  # no limit is broken, but samplers must not take it for feasible
        for name, violation in violations.items():
            trial.set_constraint(name, violation)
        if violations:
            # The dashboard (0.21) knows only this attribute, which `set_constraint` has replaced.
            self.study._storage.set_trial_system_attr(
                trial._trial_id, "constraints", list(violations.values())
            )

    def _values(self, metrics: Mapping[str, float]) -> list[float]:
        """The objectives' values; of a rejected candidate, the worst so far for those that were not computed.

        Such a trial is complete and infeasible, so that NSGA-II ranks it by its violation; a pruned one would
        teach it nothing. No sampler looks at its values, but the dashboard cannot draw what is not a number.
        """
        values = []
        for at, objective in enumerate(self.goal.objectives):
            if objective.name in metrics:
                values.append(metrics[objective.name])
                continue
            complete = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            told = [trial.values[at] for trial in complete]
            values.append(max(told, key=lambda value: objective.sign * value, default=0.0))
        return values


class _Failures:
    """Counts candidates that fail one after the other, for at some point it is not the candidates' fault."""

    def __init__(self) -> None:
        self._in_a_row, self._allowed = 0, _FAILURES_AT_START

    def reset(self) -> None:
        """A candidate that did not fail."""
        self._in_a_row, self._allowed = 0, _FAILURES_IN_A_ROW

    def count(self, reason: str) -> None:
        """One more candidate that failed.

        Raises:
            StudyError: they are too many now.
        """
        self._in_a_row += 1
        if self._in_a_row >= self._allowed:
            raise StudyError(
                f"search: {self._in_a_row} candidates in a row failed, the last with {reason}; "
                "mend that, then run the same command again to go on"
            )


def _check_names(metrics: Mapping[str, float]) -> None:
    clash = RESERVED.intersection(metrics)
    if clash:
        raise StudyError(
            f"the evaluator gave a metric called {min(clash)!r}, a name that trials need; rename it"
        )


def _summary(front: Front) -> str:
    """The best so far, for the progress bar."""
    if not front:
        return "none feasible yet"
    best = []
    for objective in front.objectives:
        losses = [objective.sign * member.metrics[objective.name] for member in front]
        best.append(f"{objective.name} {objective.sign * min(losses):.4g}")
    return f"front {len(front)}, best {', '.join(best)}"
