"""The conclusions of a study in plain words, also where they are unwelcome."""

from __future__ import annotations

from collections.abc import Sequence

from dynnas.pareto.front import ScoredArchitecture
from dynnas.report.plots.axes import axes_of
from dynnas.report.tables.cascades import cascades_text
from dynnas.report.tables.table import is_dynamic
from dynnas.settings.metrics import INT8_RATIO
from dynnas.space.gene import QUANTIZE
from dynnas.study.controls import Comparison
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
    dynamic = sum(is_dynamic(member.architecture, study.space) for member in front)
    sentences = [f"{counted}, {dynamic} of these with dynamic layers or exits."]
    if not study.finished:
        sentences.append("The search has not finished: accuracies and latencies are those of the trials.")
    if told := int8_text(study.front):
        sentences.append(told)
    if cascades := study.cascades:
        text = cascades_text(study, cascades)
        sentences.append(f"{text[0].upper()}{text[1:]}.")
    comparison = study.comparison
    if told := selection_text(study, comparison):
        sentences.append(told)
    volumes = comparison.hypervolume
    own = volumes.get("search", 0.0)
    tested = {"search", "static"} <= comparison.test.keys() and bool(comparison.test["search"])
    if tested:
        sentences.append(_against_static(comparison.test["static"] / comparison.test["search"] - 1, "test"))
    if own and "static" in volumes:
        gain = volumes["static"] / own - 1
        if not tested:
            sentences.append(_against_static(gain, "search"))
        elif abs(gain) > _ALIKE:
            sentences.append(f"By those on the search images, which chose the networks, it is {_more(gain)}.")
    if own and "random" in volumes and volumes["random"] > (1 + _ALIKE) * own:
        sentences.append(
            f"Half as many random networks reached {100 * (volumes['random'] / own - 1):.1f}% more "
            "hypervolume than the search: it needs more trials or a better trained supernet before its front "
            "means much."
        )
    return tuple(sentences)


def _against_static(gain: float, split: str) -> str:
    by = f"by their scores on the {split} images"
    if abs(gain) <= _ALIKE:
        return f"Static networks alone, searched alike, reached the same hypervolume within 1% {by}."
    paid = "dynamic layers paid" if gain < 0 else "here dynamic layers did not pay"
    return f"Static networks alone, searched alike, reached {_more(gain)} hypervolume {by}: {paid}."


def _more(gain: float) -> str:
    return f"{100 * abs(gain):.1f}% {'more' if gain > 0 else 'less'}"


def int8_text(front: Sequence[ScoredArchitecture]) -> str:
    """Say whether int8 made the networks of a front faster; empty where nothing was to choose."""
    ratios = sorted(member.metrics[INT8_RATIO] for member in front if INT8_RATIO in member.metrics)
    if not ratios:
        return ""
    chosen = sum(member.architecture.get(QUANTIZE) == "int8" for member in front)
    slower = sum(ratio > 1 for ratio in ratios)
    return (
        f"{chosen} of the front's networks are in int8. In int8 they take {ratios[0]:.2f} to "
        f"{ratios[-1]:.2f} times as long as in float32, and {slower} of {len(ratios)} get slower by it."
    )


def selection_text(study: Study, comparison: Comparison) -> str:
    """Say by how much the scores that chose the front promise too much, and whether its order holds."""
    axes = axes_of(study)
    if comparison.optimism is None or axes.unit == 1:
        return ""
    text = (
        f"Over the front, {axes.gain} is {100 * comparison.optimism:.1f} points higher on the search images, "
        "by which its members were chosen, than on the test images"
    )
    if comparison.unselected_optimism is not None:
        others = comparison.unselected_optimism
        text += (
            f"; over random networks, which nothing has chosen, {100 * others:.1f}: choosing makes "
            f"{100 * (comparison.optimism - others):.1f} points"
        )
    if comparison.order is None:
        return f"{text}."
    return f"{text}. The order of its members holds on the test images with Spearman {comparison.order:.2f}."
