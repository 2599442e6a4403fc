"""The objectives of a search, and the limits that a candidate must keep."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from dynnas.errors import StudyError, nearest
from dynnas.metric import Direction, Metric
from dynnas.settings.metrics import find_metric, known_metrics

Verdict = Callable[[Mapping[str, float]], str | None]
"""A function from metrics to the reason why their candidate is not worth more work; None if it is."""


@dataclass(frozen=True)
class Objective:
    """A metric that is searched for, and which way."""

    name: str
    direction: Direction

    @property
    def sign(self) -> float:
        """The factor that turns the metric into a loss."""
        return -1.0 if self.direction == "maximize" else 1.0


def objectives_of(
    names: Sequence[str] | Mapping[str, str], given: Iterable[Metric] = ()
) -> tuple[Objective, ...]:
    """Return objectives from names of metrics, or from {"any name": "maximize" | "minimize"}.

    Args:
        names: of the objectives. given: metrics beside those of registered measurements.

    Raises:
        StudyError: no objective, an unknown name without a direction, or an unknown direction.
    """
    if isinstance(names, str) or not names:
        raise StudyError(f"objectives: found {names!r}; give names, as in ('accuracy', 'latency_ms')")
    if isinstance(names, Mapping):
        return tuple(_objective(name, direction) for name, direction in names.items())
    own = {metric.name: metric for metric in given}
    return tuple(_objective(name, _known_direction(name, own)) for name in names)


def _objective(name: str, direction: str) -> Objective:
    if direction not in ("maximize", "minimize"):
        raise StudyError(
            f"objectives: {name!r} is to be {direction!r}; allowed are 'maximize' and 'minimize'"
        )
    return Objective(name, cast(Direction, direction))


def _known_direction(name: str, own: Mapping[str, Metric]) -> Direction:
    metric = own.get(name) or find_metric(name)
    if metric is None:
        known = known_metrics()
        raise StudyError(
            f"objectives: {name!r} is not a known metric ({', '.join(known)}){nearest(name, known)}; "
            f"for a metric of your own write {{{name!r}: 'maximize'}} or 'minimize'"
        )
    return metric.direction


@dataclass(frozen=True)
class Goal:
    """The objectives and upper limits (`constraints`), in their metrics' units; `Goal.of` builds one."""

    objectives: tuple[Objective, ...]
    constraints: Mapping[str, float]

    @staticmethod
    def of(
        objectives: Sequence[str] | Mapping[str, str],
        constraints: Mapping[str, float] | None = None,
        given: Iterable[Metric] = (),
    ) -> Goal:
        """Return a goal from plain names and numbers.

        `given` are metrics beside those of registered measurements.

        Raises:
            StudyError: as `objectives_of`; or a limit is no finite number, or for a metric that is maximised.
        """
        limits = dict(constraints or {})
        own = {metric.name: metric for metric in given}
        for name, limit in limits.items():
            metric = own.get(name) or find_metric(name)
            if metric is not None and metric.direction == "maximize":
                raise StudyError(
                    f"constraints: {name!r} is maximised, but constraints are upper limits; limit a cost"
                )
            if isinstance(limit, bool) or not isinstance(limit, int | float) or not math.isfinite(limit):
                raise StudyError(
                    f"constraints: the limit of {name!r} is {limit!r}; a finite number is needed"
                )
        return Goal(objectives_of(objectives, own.values()), limits)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that an evaluation must give."""
        return tuple(dict.fromkeys([*(objective.name for objective in self.objectives), *self.constraints]))

    def violations(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return how far each limited metric that is known lies above its limit; zero or less keeps it.

        Relative to the limit, for samplers add milliseconds and multiply-adds up.
        """
        return {
            name: (metrics[name] - limit) / (abs(limit) or 1.0)
            for name, limit in self.constraints.items()
            if name in metrics
        }

    def rejection(self, metrics: Mapping[str, float]) -> str | None:
        """Say which limits the known `metrics` break; None if they keep all."""
        broken = [name for name, violation in self.violations(metrics).items() if violation > 0]
        return (
            ", ".join(f"{name} {metrics[name]:g} is above {self.constraints[name]:g}" for name in broken)
            or None
        )
