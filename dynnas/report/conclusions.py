"""The conclusions of a study in plain words, also where they are unwelcome."""

from __future__ import annotations

from dynnas.report.tables.cascades import cascades_text
from dynnas.report.tables.table import is_dynamic
from dynnas.study.study import Study

_ALIKE = 0.01
"""Hypervolumes that differ by less are called alike: another seed differs by more."""


def conclusions(study: Study) -> tuple[str, ...]:
    """Return sentences about the front, and about whether the search and its dynamic layers paid."""
    front = study.front
    if not front:
        return ("No candidate has kept the limits so far.",)
    counted = f"{len(study.candidates)} candidates evaluated, {len(front)} of them on the front"
    if study.space.table:
        return (f"{counted}.",)
    dynamic = sum(is_dynamic(member.architecture) for member in front)
    sentences = [f"{counted}, {dynamic} of these with dynamic layers or exits."]
    if not study.finished:
        sentences.append("The search has not finished: accuracies and latencies are those of the trials.")
    if cascades := study.cascades:
        text = cascades_text(study, cascades)
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    volumes = study.comparison.hypervolume
    own = volumes.get("search", 0.0)
    if own and "static" in volumes:
        sentences.append(_against_static(volumes["static"] / own - 1))
    if own and "random" in volumes and volumes["random"] > (1 + _ALIKE) * own:
        sentences.append(
            f"As many random networks reached {100 * (volumes['random'] / own - 1):.1f}% more hypervolume "
            "than the search: it needs more trials or a better trained supernet before its front means much."
        )
    return tuple(sentences)


def _against_static(gain: float) -> str:
    if gain > _ALIKE:
        return (
            f"Static networks alone, searched alike, reached {100 * gain:.1f}% more hypervolume: here "
            "dynamic layers did not pay."
        )
    if gain < -_ALIKE:
        return (
            f"Static networks alone, searched alike, reached {-100 * gain:.1f}% less hypervolume: dynamic "
            "layers paid."
        )
    return "Static networks alone, searched alike, reached the same hypervolume within 1%."
