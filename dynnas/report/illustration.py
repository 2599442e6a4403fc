"""Notes, drawings and architecture files, which the dashboard shows for each trial."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dynnas.pareto.front import ScoredArchitecture
from dynnas.report.page.charts import tip_of
from dynnas.report.plots.diagram import draw_diagram, draw_parts, draw_picture
from dynnas.settings.metrics import find_metric
from dynnas.space.architecture import Architecture
from dynnas.study.study import Study


def objective_labels(study: Study) -> list[str]:
    """Return the objectives' names with their units, for the axes of charts."""
    names = [objective.name for objective in study.goal.objectives]
    metrics = [None if study.space.table else find_metric(name) for name in names]
    return [
        f"{name} [{metric.unit}]" if metric else name for name, metric in zip(names, metrics, strict=True)
    ]


def note_of(study: Study) -> Callable[[ScoredArchitecture, str], str]:
    """Say in Markdown what a candidate of `study` is, and why it was rejected."""

    def note(candidate: ScoredArchitecture, rejected: str) -> str:
        key, *lines = tip_of(candidate, study)
        text = "\n".join(f"- {line}" for line in lines)
        return f"**{key}**\n\n{text}" + (f"\n\nrejected: {rejected}" if rejected else "")

    return note


def files_of(study: Study) -> Mapping[str, Callable[[Architecture], str]]:
    """Return files about an architecture of `study`; a space of plain choices has no drawing."""
    files = {"architecture.json": lambda architecture: architecture.to_json() + "\n"}
    space = study.space
    if space.model is not None:
        return {"network.svg": lambda architecture: draw_picture(_drawn_parts(study, architecture)), **files}
    if space.network is None:
        return files
    return {
        "network.svg": lambda architecture: draw_picture(draw_diagram(space.network_config(architecture))),
        **files,
    }


def _drawn_parts(study: Study, architecture: Architecture) -> str:
    from dynnas.metrics.parts import parts_of

    return draw_parts(parts_of(study.extractor.candidate(architecture).network))
