"""The trials of a study as architectures and metrics, and their return to the queue."""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from dynnas.errors import SpaceError
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.objectives import Goal, Verdict
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space

# User attributes of a trial that are no metrics.
KEY = "key"
ARCHITECTURE = "architecture"
REJECTED = "rejected"
SCREENED = "screened"
ERROR = "failure"
ATTEMPT = "attempt"
MOVE = "move"  # how the sampler made the architecture
RESERVED = frozenset({KEY, ARCHITECTURE, REJECTED, SCREENED, ERROR, ATTEMPT, MOVE})

# The constraint that is broken by what the evaluator could not evaluate.
AVAILABLE = "available"

_ATTEMPTS = 3


class Unread:
    """Gives every trial of the finished beginning of a study once, for these do not change any more."""

    def __init__(self) -> None:
        self._count = 0
        self._last: tuple[int, datetime | None] | None = None

    def next(self, study: optuna.Study) -> tuple[bool, list[FrozenTrial], list[FrozenTrial]]:
        """Return trials in the order of their numbers.

        Returns:
            Whether the study is another one than before, so that what was given is void; the trials that the
            finished beginning has more than before; and all trials from the first unfinished one on.
        """
        trials = study.get_trials(deepcopy=False)
        # The time tells apart trials of different studies, whose numbers are the same.
        other = self._count > len(trials) or (
            self._count > 0 and _name_of(trials[self._count - 1]) != self._last
        )
        begin = 0 if other else self._count
        unfinished = (at for at in range(begin, len(trials)) if not trials[at].state.is_finished())
        end = next(unfinished, len(trials))
        self._count = end
        self._last = _name_of(trials[end - 1]) if end else None
        return other, trials[begin:end], trials[end:]


def _name_of(trial: FrozenTrial) -> tuple[int, datetime | None]:
    return trial.number, trial.datetime_complete


def architecture_of(trial: FrozenTrial, space: Space) -> Architecture | None:
    """Return the architecture that a trial is about.

    It is None if it lacks values, or is not about one of `space`.
    """
    try:
        return space.architecture(trial.params)
    except SpaceError:
        return None


def key_of(trial: FrozenTrial, space: Space) -> str | None:
    """Return the key of the architecture that a trial is about, also in trials made by others."""
    if known := trial.user_attrs.get(KEY):
        return str(known)
    architecture = architecture_of(trial, space)
    return architecture.key if architecture else None


def proposed_keys(study: optuna.Study, space: Space) -> set[str]:
    """Return the architectures that any trial was about, in whatever state."""
    return {key for trial in study.get_trials(deepcopy=False) if (key := key_of(trial, space))}


def finished_keys(study: optuna.Study, space: Space) -> set[str]:
    """Return the architectures that need no more work: evaluated, rejected, or failed for good."""
    trials = study.get_trials(deepcopy=False)
    done = {key for trial in trials if _is_finished(trial) and (key := key_of(trial, space))}
    return done - {trial.user_attrs.get(KEY) for trial in trials if not trial.state.is_finished()}


def _is_finished(trial: FrozenTrial) -> bool:
    # A failed trial without a reason was interrupted: it says nothing about its architecture.
    return trial.state == TrialState.COMPLETE or (
        trial.state == TrialState.FAIL and ERROR in trial.user_attrs
    )


def metrics_of(trial: FrozenTrial, goal: Goal | None = None) -> dict[str, float]:
    """Return every metric that the trial has.

    A trial of a program that knows no metrics has its values alone.

    Args:
        trial: of a study.
        goal: whose objectives the values are.
    """
    metrics = {name: value for name, value in trial.user_attrs.items() if name not in RESERVED}
    if not metrics and goal and trial.values and KEY not in trial.user_attrs:
        names = [objective.name for objective in goal.objectives]
        return dict(zip(names, trial.values, strict=True))
    return metrics


def candidates_of(study: optuna.Study, space: Space, goal: Goal) -> list[ScoredArchitecture]:
    """Return the evaluated architectures that keep the goal's limits, in the order of their trials."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    # The limits of today decide, not the verdict that a trial got under those of its day.
    return [
        ScoredArchitecture(architecture, metrics, trial.number)
        for trial in trials
        if (metrics := metrics_of(trial, goal)).keys() >= set(goal.metrics)
        and not goal.rejection(metrics)
        and (architecture := architecture_of(trial, space))
    ]


def retry_interrupted(
    study: optuna.Study, space: Space, *, killed: bool = True, running: Container[int] = ()
) -> int:
    """Queue the trials that an interrupted run left unfinished, and return how many there were.

    Only for the one driver of a study: to it, every other trial that is running is stale. The copy is queued
    before the trial fails, so that a crash in between loses nothing.

    Args:
        study: whose trials.
        space: of the architectures.
        killed: whether they may have ended the whole process, and are to be tried only so often.
        running: numbers of the trials that this process is evaluating.
    """
    trials = study.get_trials(deepcopy=False)
    queued = {trial.user_attrs.get(KEY) for trial in trials if trial.state == TrialState.WAITING}
    stale = [trial for trial in trials if trial.state == TrialState.RUNNING and trial.number not in running]
    for trial in stale:
        attempt = trial.user_attrs.get(ATTEMPT, 1) - (not killed)
        architecture = architecture_of(trial, space)
        # Without all of its values it is proposed again by the sampler. One that ends the whole process every
        # time must not stop the study for good.
        if architecture and attempt < _ATTEMPTS and architecture.key not in queued:
            _requeue(study, trial, architecture, attempt + 1)
        study.tell(trial.number, state=TrialState.FAIL)
    return len(stale)


def retry_rejected(study: optuna.Study, space: Space, goal: Goal, hopeless: Verdict | None = None) -> int:
    """Queue the candidates that older, tighter limits had rejected, and return how many.

    Those that a prediction had ruled out come again too, if `hopeless` no longer says so; and so do those
    that lack a metric which is a limit now.
    """
    trials = study.get_trials(deepcopy=False)
    latest = {trial.user_attrs[KEY]: trial for trial in trials if KEY in trial.user_attrs}
    again = [
        trial
        for trial in latest.values()
        if trial.state == TrialState.COMPLETE
        and (REJECTED in trial.user_attrs or SCREENED in trial.user_attrs or _lacks_metrics(trial, goal))
        and AVAILABLE not in trial.constraints
        and not goal.rejection(metrics_of(trial))
        and not (SCREENED in trial.user_attrs and hopeless and hopeless(metrics_of(trial)))
    ]
    for trial in again:
        _requeue(study, trial, space.architecture(trial.params), attempt=1)
    return len(again)


def _lacks_metrics(trial: FrozenTrial, goal: Goal) -> bool:
    return not metrics_of(trial, goal).keys() >= set(goal.metrics)


def _requeue(study: optuna.Study, trial: FrozenTrial, architecture: Architecture, attempt: int) -> None:
    """Let the study's next trial evaluate the architecture of `trial`."""
    # NSGA-II's generation comes along, the verdict on the limits does not.
    kept = {name: value for name, value in trial.system_attrs.items() if not name.startswith("constraints")}
    move = {MOVE: trial.user_attrs[MOVE]} if MOVE in trial.user_attrs else {}
    study.add_trial(
        create_trial(
            state=TrialState.WAITING,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={
                KEY: architecture.key,
                ARCHITECTURE: dict(architecture),
                ATTEMPT: attempt,
                **move,
            },
            system_attrs=kept,
        )
    )
