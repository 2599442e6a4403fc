"""Candidates that a prediction shows to be hopeless, before they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dynnas.pareto.front import Candidate
from dynnas.pareto.objectives import Goal

MEASURED, PREDICTED = "latency_ms", "predicted_ms"

DEVIATIONS = 3.0
"""A prediction is trusted to be wrong by no more than so many of its standard deviations."""


@dataclass(frozen=True)
class Screen:
    """Tells which candidates need no measuring.

    Attributes:
        goal: objectives and limits.
        margin: part of a predicted latency by which the measured one may lie below it.
    """

    goal: Goal
    margin: float

    def verdict(self, metrics: Mapping[str, float], rivals: Iterable[Candidate]) -> str | None:
        """Return why a candidate whose latency is only predicted so far is hopeless, in words; None if it is
        not.

        Args:
            metrics: what is known of it.
            rivals: a front, measured.
        """
        if PREDICTED not in metrics or MEASURED in metrics:
            return None
        hoped = {**metrics, MEASURED: (1 - self.margin) * metrics[PREDICTED]}
        if too_slow := self.goal.rejection(hoped):
            return f"by prediction {too_slow}"
        objectives = self.goal.objectives
        if any(objective.name not in hoped for objective in objectives):
            return None
        for rival in rivals:
            gains = [
                objective.sign * (hoped[objective.name] - rival.metrics[objective.name])
                for objective in objectives
            ]
            if min(gains) >= 0 and max(gains) > 0:
                return f"by prediction dominated by {rival.key}"
        return None

    def stand_in(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Return what samplers are told: the prediction in the place of a latency that was not measured."""
        return {MEASURED: metrics[PREDICTED], **metrics} if PREDICTED in metrics else dict(metrics)
