"""The answer to what a person asks of a front first: which network to take, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.noise import half_width, tested
from dynnas.report.plots.axes import Axes, axes_of
from dynnas.study.study import Study

_HALF = 0.5


def verdict(study: Study, pick: str = "knee") -> str:
    """Say in a few sentences what taking one member of the front means; empty where the front is empty.

    What it reaches and how exactly that is known, what networks without dynamic layers reach in no more time,
    and what half of the time would cost. Scores are those of the test split where the front is tested.
    """
    if not study.front:
        return ""
    axes, member = axes_of(study), study.front.pick(pick)
    score = score_of(axes, study.front)
    reached = _value(axes, member, score)
    noise = half_width(member.metrics, score)
    exactly = "" if noise is None else f" ± {axes.unit * noise:.1f}"
    split = " of the test images" if score != axes.gain else ""
    sentences = [
        f"Take {member.key}, the {pick.replace('-', ' ')} of the front: "
        f"{reached}{exactly}{_named(axes, split)} at {_cost(axes, member)}.",
        _sure(study.front, member),
        _without_dynamic(study, axes, score, member),
        _at_half(study.front, axes, score, member),
    ]
    return " ".join(filter(None, sentences))


def alike_text(front: Front, member: ScoredArchitecture) -> str:
    """Say which neighbours cannot be told from a member; empty where all can, or that is not known."""
    keys = " and ".join(each.key for each in front.alike(member))
    return f"as far as the test images tell it is no better or worse than {keys}" if keys else ""


def score_of(axes: Axes, front: Sequence[ScoredArchitecture]) -> str:
    """Return the metric by which members are judged: that of the test split if all of them have it."""
    name = tested(axes.gain)
    return name if all(name in member.metrics for member in front) else axes.gain


def _value(axes: Axes, member: ScoredArchitecture, score: str) -> str:
    value = axes.unit * member.metrics[score]
    return f"{value:.1f}%" if axes.unit != 1 else f"{value:.4g}"


def _named(axes: Axes, split: str) -> str:
    if axes.gain == "accuracy":
        return split or " of the search images"
    return f" {axes.gain}" + (" on the test images" if split else "")


def _cost(axes: Axes, member: ScoredArchitecture) -> str:
    cost = member.metrics[axes.cost]
    return f"{cost:.3g} ms" if axes.cost.endswith("_ms") else f"{axes.cost} {cost:.4g}"


def _sure(front: Front, member: ScoredArchitecture) -> str:
    found = alike_text(front, member)
    return f"{found[0].upper()}{found[1:]}." if found else ""


def _without_dynamic(study: Study, axes: Axes, score: str, member: ScoredArchitecture) -> str:
    """Say what the static networks of the control reach in no more time."""
    static = Front.of(study.controls.static, study.goal.objectives)
    if not static or any(score not in each.metrics for each in static):
        return ""
    if member.key in {each.key for each in static}:
        return "It has no dynamic layers, and no static network is better in its time."
    best = _best_within(static, axes, score, member.metrics[axes.cost])
    if best is None:
        return "Without dynamic layers nothing is as fast."
    return (
        f"Without dynamic layers it would be {_value(axes, best, score)} at {_cost(axes, best)}"
        f" ({_difference(axes, best.metrics[score] - member.metrics[score])})."
    )


def _at_half(front: Front, axes: Axes, score: str, member: ScoredArchitecture) -> str:
    best = _best_within(front, axes, score, _HALF * member.metrics[axes.cost])
    spent = "time" if axes.cost.endswith("_ms") else axes.cost
    if best is None:
        return f"No member of the front takes half its {spent}."
    return (
        f"At half its {spent} it is {_value(axes, best, score)} "
        f"({_difference(axes, best.metrics[score] - member.metrics[score])})."
    )


def _best_within(
    members: Sequence[ScoredArchitecture], axes: Axes, score: str, limit: float
) -> ScoredArchitecture | None:
    """Return the best by the metric that chose the members, so that nothing is chosen by test images."""
    within = [each for each in members if each.metrics[axes.cost] <= limit]
    sign = 1 if axes.gain_rises else -1
    return max(within, key=lambda each: sign * each.metrics[axes.gain], default=None)


def _difference(axes: Axes, value: float) -> str:
    return f"{axes.unit * value:+.1f} points" if axes.unit != 1 else f"{value:+.4g}"
