"""The front of a study on one of its further devices."""

from __future__ import annotations

from dynnas.pareto.front import Front
from dynnas.pareto.objectives import Objective
from dynnas.settings.metrics import on_device
from dynnas.study.study import Study


def front_on(study: Study, device: str) -> Front:
    """Return the networks that no other one dominates in score and latency on `device`.

    The score is the study's first objective to be maximised; the networks are all that kept the limits and
    were timed there.

    Args:
        study: whose `settings.devices` has that name.
    """
    scores = [each for each in study.goal.objectives if each.direction == "maximize"]
    score = scores[0] if scores else Objective("accuracy", "maximize")
    cost = Objective(on_device("latency_ms", device), "minimize")
    timed = [each for each in study.candidates if {score.name, cost.name} <= each.metrics.keys()]
    return Front.of(timed, (score, cost))
