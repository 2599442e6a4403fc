"""The two metrics of a study that its picture shows, with their labels."""

from __future__ import annotations

from dataclasses import dataclass

from dynnas.pareto.objectives import Goal
from dynnas.settings.metrics import METRICS, find_metric, on_device
from dynnas.study.study import Study


@dataclass(frozen=True)
class Axes:
    """The metric across and the one upwards, with labels; `unit` is what an upward value is multiplied by."""

    cost: str
    gain: str
    cost_label: str
    gain_label: str
    unit: float = 1.0
    gain_rises: bool = True


def axes_of(study: Study, device: str | None = None) -> Axes:
    """Return the first searched quality against the first cost, or against the latency on a `device`.

    A quality may be an error, which is minimised. They are accuracy and latency if there is none.

    Of a table, the first objective that is maximised against the first that is minimised; of objectives
    that are all alike, the first and the last.
    """
    goal = study.goal
    costs = [objective.name for objective in goal.objectives if objective.direction == "minimize"]
    gains = [objective.name for objective in goal.objectives if objective.direction == "maximize"]
    if study.space.table:
        cost = costs[0] if costs else goal.objectives[-1].name
        gain = gains[0] if gains else goal.objectives[0].name
        return Axes(cost, gain, cost, gain, gain_rises=bool(gains))
    gain = ranking_score(goal)
    usual = next((name for name in costs if name != gain), "latency_ms")
    cost = on_device("latency_ms", device) if device else usual
    metric = find_metric(gain)
    share = metric is not None and metric.share
    return Axes(
        cost=cost,
        gain=gain,
        cost_label=_label(cost),
        gain_label="accuracy on the search images [%]" if gain == "accuracy" else _label(gain, percent=share),
        unit=100.0 if share else 1.0,
        gain_rises=gain in gains or gain not in costs,
    )


def ranking_score(goal: Goal) -> str:
    """Return the score by which a study ranks: its first objective to be maximised, or that is no cost.

    It is the accuracy where there is none.
    """
    gains = [each.name for each in goal.objectives if each.direction == "maximize"]
    scores = [each.name for each in goal.objectives if each.name.partition("@")[0] not in METRICS]
    return next(iter((*gains, *scores)), "accuracy")


def _label(name: str, percent: bool = False) -> str:
    metric = find_metric(name)
    return f"{metric.title} [{'%' if percent else metric.unit}]" if metric else name
