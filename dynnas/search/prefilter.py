"""Pre-filtering: candidates that a prediction shows to be dominated are not measured."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.objectives import Goal

MEASURED, PREDICTED = "latency_ms", "predicted_ms"

DEVIATIONS = 3.0
"""Number of standard deviations by which a prediction is trusted to be wrong at most."""


@dataclass(frozen=True)
class Prefilter:
    """Decides which candidates need no measurement.

    Attributes:
        goal: objectives and limits.
        margin: part of a predicted latency by which the measured one may lie below it.
    """

    goal: Goal
    margin: float

    def verdict(self, metrics: Mapping[str, float], rivals: Iterable[ScoredArchitecture]) -> str | None:
        """Return the reason why a candidate with a predicted latency is clearly dominated; None if it is not.

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
        """Return the metrics for samplers: the prediction in place of a latency that was not measured."""
        return {MEASURED: metrics[PREDICTED], **metrics} if PREDICTED in metrics else dict(metrics)
