"""The time that is left for a whole run, from what its phases have taken so far."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import timedelta

from dynnas.progress import Phase


class WholeRun:
    """Follows the phases of a run; steps of phases alike are taken to last equally long."""

    def __init__(self) -> None:
        self._phases: dict[str, Phase] = {}
        self._seconds: dict[str, float] = {}
        self._steps: dict[str, int] = {}
        self._over: set[str] = set()
        self._image_seconds = 0.0

    def plan(self, phases: Sequence[Phase]) -> None:
        """Expect these phases from now on."""
        self._phases = {phase.name: phase for phase in phases}
        self._over.clear()

    def about(self, name: str) -> str:
        """Return what a phase is for; empty where that is not known."""
        phase = self._phases.get(name)
        return phase.about if phase else ""

    def took(self, name: str, steps: int, seconds: float) -> None:
        """Note that some steps of a phase took some time."""
        if name in self._phases:
            alike = self._phases[name].alike or name
            self._steps[alike] = self._steps.get(alike, 0) + steps
            self._seconds[alike] = self._seconds.get(alike, 0.0) + seconds
            if images := self._phases[name].images:
                self._image_seconds = self._seconds[alike] / max(self._steps[alike], 1) / images

    def end(self, name: str) -> None:
        """Note that a phase is over."""
        self._over.add(name)

    def left(self, name: str, seconds: float) -> float | None:
        """Return the seconds that are left for the run, those for the phase `name` included.

        None where nothing comes after it.

        Args:
            name: of the phase that is under way.
            seconds: that are left for it.
        """
        if name not in self._phases:
            return None
        names = list(self._phases)
        later = [self._phases[each] for each in names[names.index(name) + 1 :] if each not in self._over]
        if not later:
            return None
        return seconds + sum(phase.steps * self._step(phase) for phase in later)

    def _step(self, phase: Phase) -> float:
        alike = phase.alike or phase.name
        steps = self._steps.get(alike, 0)
        if steps:
            return self._seconds[alike] / steps
        return max(phase.seconds, phase.images * self._image_seconds)


_RECENT, _RECENT_STEPS = 0.25, 10
"""The part of a phase's steps by whose pace the rest is foretold, and the fewest such steps: later steps may
take longer than the first ones, as where a recipe begins with one network and goes on with several.
"""


class Timed:
    """One phase under way, with its time so far."""

    def __init__(
        self, whole: WholeRun, name: str, total: int, done: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name, self.total, self.before, self.done = name, total, done, done
        self._whole, self._clock = whole, clock
        self._start = self._latest = clock()
        self._marks = deque([(self._start, done)])

    @property
    def elapsed(self) -> float:
        """Seconds since it began, up to its last step."""
        return max(self._latest - self._start, 1e-9)

    @property
    def rate(self) -> float:
        """Steps a second."""
        return max(self.done - self.before, 1e-9) / self.elapsed

    @property
    def left(self) -> float:
        """Seconds left for the phase, at the rate of its latest steps."""
        since, done = self._marks[0]
        pace = (self._latest - since) / max(self.done - done, 1e-9)
        return max(self.total - self.done, 0) * pace

    def advance(self, steps: int) -> None:
        """Note that some more steps are done."""
        now = self._clock()
        self._whole.took(self.name, steps, now - self._latest)
        self._latest = now
        self.done += steps
        self._marks.append((now, self.done))
        recent = max(_RECENT_STEPS, _RECENT * (self.done - self.before))
        while self.done - self._marks[1][1] >= recent:
            self._marks.popleft()

    def end(self) -> None:
        """Note that it is over."""
        self._whole.end(self.name)

    def whole_text(self) -> str:
        """Say how long the whole run will still take; empty where nothing comes after this phase."""
        left = self._whole.left(self.name, self.left)
        return "" if left is None else f"about {clock_text(left)} for the whole run"


def clock_text(seconds: float) -> str:
    """Spell seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=round(seconds)))
