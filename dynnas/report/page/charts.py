"""The data of the page's charts, as documents for its script."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dynnas.metric import Metric
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.report.plots.axes import Axes, axes_of
from dynnas.report.prediction import predicted_and_measured
from dynnas.report.summary import StudySummary
from dynnas.report.tables.cascades import cost_of_cascade, tip_of_cascade
from dynnas.report.tables.table import (
    count,
    dynamic_layers,
    exits,
    further_metrics,
    is_dynamic,
    is_own_class,
    is_share,
    score_name,
    score_text,
)
from dynnas.settings.metrics import METRICS, find_metric
from dynnas.study.devices import front_on
from dynnas.study.study import Study

_LOG_SPAN = 5.0
_MOST_POINTS = 1500
"""Maximum number of points of a cloud: more would only be drawn over each other."""


def device_chart(study: Study, device: str) -> dict[str, Any]:
    """Return the chart of all networks by their latency on a further device, with the front there."""
    axes = axes_of(study, device)
    series = [
        _series("searched", "dots", study.candidates, study, axes),
        _series("front", "steps", front_on(study, device), study, axes),
    ]
    return _chart(axes, series)


def front_chart(study: Study) -> dict[str, Any]:
    """Return the chart of all networks of a study, its front and controls.

    Series can be switched off.
    """
    axes, goal, controls = axes_of(study), study.goal, study.controls
    series = [
        _series("searched", "dots", study.candidates, study, axes),
        _series("random", "crosses", controls.random, study, axes),
        _series("uniform width", "steps", Front.of(controls.uniform, goal.objectives), study, axes),
        _series("static only", "steps", Front.of(controls.static, goal.objectives), study, axes),
        _series("front", "steps", study.front, study, axes),
        _cascades(study, axes),
        _shelf(study, axes),
    ]
    return _chart(axes, series)


def _chart(axes: Axes, series: Sequence[dict[str, Any]]) -> dict[str, Any]:
    kept = [one for one in series if one["points"]]
    every = sorted(point["y"] for one in kept for point in one["points"])
    steps = [point["y"] for one in kept if one["style"] == "steps" for point in one["points"]]
    x = [point["x"] for one in kept for point in one["points"]]
    chart: dict[str, Any] = {
        "x": {"label": axes.cost_label, "log": bool(x) and max(x) > _LOG_SPAN * min(x) > 0},
        "y": {"label": axes.gain_label},
        "series": kept,
    }
    if axes.gain_rises and every:
        # The worst networks would press the fronts into a line.
        floor = min(every[len(every) // 10], *steps) if steps else every[len(every) // 10]
        floor -= 0.05 * (every[-1] - floor)
        if every[0] < floor:
            chart["y"]["min"] = floor
    chart["held"] = axes.gain_rises
    return chart


def growth_chart(study: Study) -> dict[str, Any] | None:
    """Return the chart of the front's hypervolume over the trials; None where nothing grew."""
    curve = study.growth
    if not curve.trials:
        return None
    last = max((candidate.trial or 0 for candidate in study.candidates), default=0)
    points = [
        {"x": trial, "y": volume, "tip": [f"trial {trial}", f"hypervolume {volume:.5g}"]}
        for trial, volume in zip(curve.trials, curve.volumes, strict=True)
    ]
    return {
        "x": {"label": "trial", "max": last},
        "y": {"label": f"hypervolume of the front [{_volume_unit(study)}]"},
        "series": [{"name": "front", "style": "steps", "points": points}],
        "held": True,
    }


def prediction_chart(study: Study) -> dict[str, Any] | None:
    """Return the chart of predicted against measured latency; None where nothing was predicted."""
    known = predicted_and_measured((*study.candidates, *study.controls.static))
    if len(known) < 3:
        return None
    points = [
        {
            "x": measured,
            "y": predicted,
            "tip": [f"predicted {predicted:.4g} ms", f"measured {measured:.4g} ms"],
        }
        for predicted, measured in known
    ]
    return {
        "x": {"label": "measured latency [ms]"},
        "y": {"label": "predicted latency [ms]"},
        "diagonal": True,
        "series": [{"name": "front", "style": "dots", "points": points}],
    }


def audit_chart(audit: Mapping[str, Any]) -> dict[str, Any]:
    """Return the chart of inherited against stand-alone scores."""
    metric = Metric(**audit["metric"])
    unit, sign = (100, "%") if metric.share else (1, "")
    points = [
        {
            "x": unit * network["inherited"],
            "y": unit * network["alone"],
            "tip": [
                network["key"],
                f"with the supernet's weights {metric.text(network['inherited'])}{sign}",
                f"trained alone {metric.text(network['alone'])}{sign}",
            ],
        }
        for network in audit["networks"]
    ]
    return {
        "x": {"label": f"{metric.heading} with the supernet's weights"},
        "y": {"label": f"{metric.heading} trained alone"},
        "series": [{"name": "front", "style": "dots", "points": points}],
    }


def tip_of(member: ScoredArchitecture, study: Study) -> list[str]:
    """Return the lines of text beside the point of a network."""
    metrics = member.metrics
    if study.space.table:
        names = [objective.name for objective in study.goal.objectives]
        lines = [f"{name} {metrics[name]:.6g}" for name in names]
        return [
            member.key,
            *lines,
            *(f"{name}: {value}" for name, value in list(member.architecture.items())[:8]),
        ]
    lines = [member.key]
    score = score_name(study)
    if score in metrics:
        unit = "%" if is_share(score) else ""
        said, tested = (score_text(metrics, score, name) for name in (score, f"test_{score}"))
        lines.append(f"{score} {said}{unit}" + (f" (test {tested}{unit})" if tested else ""))
    if "latency_ms" in metrics:
        worst = f", p95 {metrics['p95_ms']:.3g} ms" if "p95_ms" in metrics else ""
        lines.append(f"latency {metrics.get('mean_ms', metrics['latency_ms']):.3g} ms{worst}")
    sizes = [f"{count(metrics[name])} {METRICS[name].unit}" for name in ("macs", "params") if name in metrics]
    lines += [", ".join(sizes)] if sizes else []
    lines += [f"{name} {metrics[name]:.4g}" for name in further_metrics(study) if name in metrics]
    if is_own_class(study.space):
        genes = [gene.name for gene in study.space.choices if gene.name in member.architecture]
        return [*lines, *(f"{name}: {member.architecture[name]}" for name in genes)]
    lines.append(dynamic_layers(member.architecture) or "all layers static")
    if leaves := exits(member.architecture):
        lines.append(f"exits: {leaves}")
    return lines


def _series(
    name: str, style: str, members: Iterable[ScoredArchitecture], study: Study, axes: Axes
) -> dict[str, Any]:
    listed = list(members)
    if style != "steps":
        listed = listed[:: -(-len(listed) // _MOST_POINTS) or 1]
    else:
        listed.sort(key=lambda member: member.metrics[axes.cost])
    points = [
        {
            "x": member.metrics[axes.cost],
            "y": axes.unit * member.metrics[axes.gain],
            "tip": tip_of(member, study),
            "dynamic": is_dynamic(member.architecture, study.space),
            "key": member.key,
        }
        for member in listed
        if {axes.cost, axes.gain} <= member.metrics.keys()
    ]
    return {"name": name, "style": style, "points": points}


def _cascades(study: Study, axes: Axes) -> dict[str, Any]:
    points = [
        {
            "x": cost,
            "y": axes.unit * cascade.metrics[axes.gain],
            "tip": tip_of_cascade(number, cascade, study.cascades.score),
            "dynamic": True,
            "key": cascade.key,
        }
        for number, cascade in enumerate(study.cascades, start=1)
        if axes.gain in cascade.metrics and (cost := cost_of_cascade(cascade, axes.cost)) is not None
    ]
    return {"name": "cascades", "style": "diamonds", "points": points}


def _shelf(study: Study, axes: Axes) -> dict[str, Any]:
    points = [
        {
            "x": each.metrics[axes.cost],
            "y": axes.unit * each.metrics[axes.gain],
            "tip": [each.name, "from the shelf", f"trained for {each.epochs} epochs"],
            "dynamic": False,
            "key": each.name,
        }
        for each in study.shelf
        if {axes.cost, axes.gain} <= each.metrics.keys()
    ]
    return {"name": "from the shelf", "style": "crosses", "points": points}


def _volume_unit(study: Study) -> str:
    names = [objective.name for objective in study.goal.objectives]
    return " x ".join(metric.unit if (metric := find_metric(name)) else name for name in names)


def histogram_html(found: Mapping[str, Any], bins: int = 36) -> str:
    """Return the histogram of the images' times, by exit, drawn without a script."""
    times, taken = found["image_ms"], found["image_ways"]
    low, high = min(times), max(times)
    width = (high - low) / bins or 1.0
    names = [way["name"] for way in found["ways"]]
    counts = [[0] * len(names) for _ in range(bins)]
    for ms, way in zip(times, taken, strict=True):
        counts[min(bins - 1, int((ms - low) / width))][way] += 1
    tallest = max(map(sum, counts))
    columns = "".join(_column(column, names, tallest, low + at * width) for at, column in enumerate(counts))
    keys = "".join(f'<span class="key way{at}">{name}</span>' for at, name in enumerate(names))
    return (
        f'<div class="legend">{keys}</div><div class="histogram" role="img" aria-label="images by time">'
        f'{columns}</div><div class="ends"><span>{low:.3g} ms</span><span>{high:.3g} ms</span></div>'
    )


def _column(counts: Sequence[int], names: Sequence[str], tallest: int, start: float) -> str:
    parts = "".join(
        f'<i class="way{at}" style="height:{100 * number / tallest:.1f}%" '
        f'title="{number} images from {start:.3g} ms, {names[at]}"></i>'
        for at, number in enumerate(counts)
        if number
    )
    return f"<span>{parts}</span>"


def has_distribution(summary: StudySummary, member: ScoredArchitecture) -> bool:
    """Tell whether the times of many images are known."""
    return len(summary.latencies.get(member.key, {}).get("image_ms", ())) > 1
