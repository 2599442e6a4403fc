"""What the dashboard shows of each trial: a note, a drawing and the architecture's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dynnas.pareto.front import Candidate
from dynnas.pareto.metrics import METRICS
from dynnas.report.diagram import draw_picture
from dynnas.report.page.charts import tip_of
from dynnas.space.architecture import Architecture
from dynnas.study.study import Study


def objective_labels(study: Study) -> list[str]:
    """The objectives' names with their units, for the axes of charts."""
    names = [objective.name for objective in study.goal.objectives]
    return [
        f"{name} [{METRICS[name].unit}]" if name in METRICS and not study.space.table else name
        for name in names
    ]


def note_of(study: Study) -> Callable[[Candidate, str], str]:
    """Says in Markdown what a candidate of `study` is, and why it was rejected."""

    def note(candidate: Candidate, rejected: str) -> str:
        key, *lines = tip_of(candidate, study)
        text = "\n".join(f"- {line}" for line in lines)
        return f"**{key}**\n\n{text}" + (f"\n\nrejected: {rejected}" if rejected else "")

    return note


def files_of(study: Study) -> Mapping[str, Callable[[Architecture], str]]:
    """Files about an architecture of `study`; a space of plain choices has no drawing."""
    files = {"architecture.json": lambda architecture: architecture.to_json() + "\n"}
    if study.space.network is None:
        return files
    space = study.space
    return {"network.svg": lambda architecture: draw_picture(space.network_config(architecture)), **files}
