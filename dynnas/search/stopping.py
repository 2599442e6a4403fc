"""The conditions that end a search, beside its number of trials."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dynnas.errors import StudyError
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.settings.metrics import find_metric
from dynnas.settings.settings import SearchSettings

# Number of first candidates whose worst values are the reference of the hypervolume that patience watches.
_JUDGED_BY = 20

# Less than this share of the hypervolume is no gain.
_GAIN = 1e-4


@dataclass(frozen=True)
class StopConditions:
    """The conditions, each of which ends a search; None never does.

    Attributes:
        minutes: time that a run may take; what earlier runs took does not count.
        target: values of metrics, all of which one candidate within the limits must reach.
        patience: trials without a gain of the front's hypervolume.
    """

    minutes: float | None = None
    target: Mapping[str, float] = field(default_factory=dict)
    patience: int | None = None

    @staticmethod
    def of(settings: SearchSettings) -> StopConditions:
        """Return the conditions in the settings of a search."""
        return StopConditions(settings.minutes, settings.target, settings.patience)

    def check(self, goal: Goal) -> None:
        """Check that there is a direction for each metric of the target.

        Raises:
            StudyError: one is neither an objective nor a limit of `goal`.
        """
        for name, value in self.target.items():
            if name not in goal.metrics:
                raise StudyError(
                    f"target: {name!r} is not searched for; allowed are {', '.join(goal.metrics)}"
                )
            metric = find_metric(name)
            if metric is not None and metric.unit == "share" and value > 1:
                raise StudyError(
                    f"target: {name} is {value:g}, but it is a share from 0 to 1, so no candidate reaches "
                    f"it; for {value:g}% say {value / 100:g}"
                )

    def watch(self, goal: Goal, candidates: Sequence[ScoredArchitecture], done: int) -> StopMonitor:
        """Begin to watch a search that has found `candidates` in `done` trials."""
        self.check(goal)
        return StopMonitor(self, goal, candidates, done)


class StopMonitor:
    """Follows one run of a search, and says when and why it ends."""

    def __init__(
        self, stopping: StopConditions, goal: Goal, candidates: Sequence[ScoredArchitecture], done: int
    ) -> None:
        self._stopping = stopping
        self._goal = goal
        self._start = time.monotonic()
        self._found: list[ScoredArchitecture] = []
        self._reference: dict[str, float] = {}
        self._front = Front((), goal.objectives)
        self._volume = 0.0
        self._gained = 0
        self._done = 0
        self._reached = False
        for candidate in candidates:
            self._add(candidate, (candidate.trial or 0) + 1)
        self._gained = min(self._gained, done)
        self._done = done

    def saw(self, candidate: ScoredArchitecture | None) -> None:
        """Count one more ended trial: with a candidate within the limits, or without."""
        self._done += 1
        if candidate is not None:
            self._add(candidate, self._done)

    def reason(self) -> str | None:
        """Return why the search ends now; None if it goes on."""
        stopping = self._stopping
        if stopping.minutes is not None and time.monotonic() - self._start >= 60 * stopping.minutes:
            return f"{stopping.minutes:g} minutes are over"
        if self._reached:
            goals = ", ".join(f"{name} {value:g}" for name, value in stopping.target.items())
            return f"the target is reached: {goals}"
        if stopping.patience is not None and self._done - self._gained >= stopping.patience:
            return f"no gain of hypervolume for {stopping.patience} trials"
        return None

    def _add(self, candidate: ScoredArchitecture, trial: int) -> None:
        target = self._stopping.target
        self._reached |= bool(target) and all(self._reaches(name, candidate.metrics[name]) for name in target)
        if self._stopping.patience is None:
            return
        self._front = Front.of((*self._front, candidate), self._goal.objectives)
        if len(self._found) < _JUDGED_BY:
            self._found.append(candidate)
            worst = {
                objective.name: objective.sign
                * max(objective.sign * one.metrics[objective.name] for one in self._found)
                for objective in self._goal.objectives
            }
            if worst != self._reference:  # another scale: what was there before is measured again
                self._reference, self._volume, self._gained = worst, 0.0, trial
        volume = self._front.hypervolume(self._reference)
        if volume > self._volume * (1 + _GAIN):
            self._volume, self._gained = volume, trial

    def _reaches(self, name: str, value: float) -> bool:
        signs = {objective.name: objective.sign for objective in self._goal.objectives}
        sign = signs.get(name, 1.0)  # a limit is a cost
        return sign * value <= sign * self._stopping.target[name]
