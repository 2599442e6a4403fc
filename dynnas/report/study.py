"""A study's front as a table, its comparison with the controls, and its picture."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.report.plots.axes import axes_of
from dynnas.report.plots.front import Picture, Point, draw
from dynnas.report.plots.growth import Growth, draw_growth
from dynnas.report.tables.cascades import cost_of_cascade
from dynnas.report.tables.table import (
    Column,
    Table,
    front_table,
    further_metrics,
    is_dynamic,
    is_own_class,
    metrics_table,
    score_name,
)
from dynnas.space.gene import QUANTIZE
from dynnas.study.study import Study

_CONTROLS = {
    "search": "this search",
    "static": "static networks only, searched alike",
    "random": "half as many random networks",
    "uniform": "static networks of one width for all layers",
}


def study_table(study: Study) -> Table:
    """Return the table of a study's front, with what it was measured on."""
    if study.space.table:
        names = [objective.name for objective in study.goal.objectives]
        return metrics_table(study.front, names, f"{title_of(study)}; members: {len(study.front)}")
    dynamic = sum(is_dynamic(member.architecture, study.space) for member in study.front)
    state = "" if study.finished else "not finished, trials so far: "
    title = f"{state}{title_of(study)}; members: {len(study.front)}, dynamic: {dynamic}"
    if is_own_class(study.space):
        genes = [gene.name for gene in study.space.choices if gene.name != QUANTIZE]
        return front_table(study.front, title, further_metrics(study), genes, score_name(study))
    return front_table(study.front, title, further_metrics(study), score=score_name(study))


def comparison_table(study: Study) -> Table:
    """Return the share of the search's hypervolume that each control reaches; the search itself has 100%."""
    comparison = study.comparison
    columns = (
        Column("networks"),
        Column("hypervolume of their front, %", numeric=True),
        Column("on the test images, %", numeric=True),
    )
    rows = tuple(
        (_CONTROLS[name], _share(comparison.hypervolume, name), _share(comparison.test, name))
        for name in comparison.hypervolume
    )
    return Table("compared with", columns, rows)


def _share(volumes: Mapping[str, float], name: str) -> str:
    own = volumes.get("search", 0.0)
    return f"{100 * volumes[name] / own:.1f}" if own and name in volumes else ""


def artifacts_table(manifest: Mapping[str, Any], title: str) -> Table:
    """List the files that `export_model` wrote, and how near each comes to torch on search images."""
    columns = (
        Column("file"),
        Column("images compared", numeric=True),
        Column("same answer %", numeric=True),
        Column("largest difference", numeric=True),
    )
    rows = tuple(
        (
            artifact["file"],
            str(artifact["images"]),
            f"{100 * artifact['agreement']:.2f}",
            f"{artifact['largest_difference']:.1e}",
        )
        for artifact in manifest["artifacts"]
    )
    uses = "\n".join(f"{artifact['file']}: {artifact['use']}" for artifact in manifest["artifacts"])
    return Table(title, columns, rows, uses)


def write_picture(study: Study) -> Path:
    """Draw the front beside all candidates and controls, and say where."""
    draw(picture_of(study), study.folder.picture)
    return study.folder.picture


def write_growth(study: Study) -> Path:
    """Draw how the front's hypervolume grew, and say where."""
    curve = study.growth
    reference = ", ".join(f"{name} {value:.4g}" for name, value in curve.reference.items())
    last = max((candidate.trial or 0 for candidate in study.candidates), default=0)
    growth = Growth(f"{title_of(study)}\nreference: {reference}", curve.trials, curve.volumes, last)
    draw_growth(growth, study.folder.growth)
    return study.folder.growth


def picture_of(study: Study) -> Picture:
    """Return the front, all candidates and the controls, on the axes of `axes_of`."""
    axes, goal, controls = axes_of(study), study.goal, study.controls

    def points(candidates: Iterable[ScoredArchitecture]) -> list[Point]:
        return [
            Point(
                member.metrics[axes.cost],
                axes.unit * member.metrics[axes.gain],
                is_dynamic(member.architecture, study.space),
            )
            for member in candidates
        ]

    return Picture(
        title=title_of(study),
        front=points(study.front),
        candidates=points(study.candidates),
        random=points(controls.random),
        static_front=points(Front.of(controls.static, goal.objectives)),
        uniform_front=points(Front.of(controls.uniform, goal.objectives)),
        cascades=_cascade_points(study),
        shelf=_shelf_points(study),
        cost_label=axes.cost_label,
        accuracy_label=axes.gain_label,
    )


def _cascade_points(study: Study) -> list[Point]:
    axes = axes_of(study)
    placed = [(cost_of_cascade(cascade, axes.cost), cascade) for cascade in study.cascades]
    return [
        Point(cost, axes.unit * cascade.metrics[axes.gain], dynamic=True)
        for cost, cascade in placed
        if cost is not None and axes.gain in cascade.metrics
    ]


def _shelf_points(study: Study) -> list[Point]:
    axes = axes_of(study)
    return [
        Point(each.metrics[axes.cost], axes.unit * each.metrics[axes.gain])
        for each in study.shelf
        if {axes.cost, axes.gain} <= each.metrics.keys()
    ]


def title_of(study: Study) -> str:
    """Return the study's name, its data or table, and the device that it was timed on."""
    if study.space.table:
        return f"{study.name}: {Path(study.space.table.table).name}"
    target = study.settings.target
    parts = [target.device] if target.device == "cuda" else [target.device, f"threads: {target.threads}"]
    if target.dtype != "float32":
        parts.append(target.dtype)
    if target.batch > 1:
        parts.append(f"{target.batch} images a call")
    return f"{study.name}: {Path(study.settings.data.source).name} on {', '.join(parts)}"
