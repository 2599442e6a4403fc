"""The sections of the page, each made from the results of a study; None where they are missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.importance import Importances
from dynnas.report.conclusions import conclusions
from dynnas.report.page.charts import (
    audit_chart,
    device_chart,
    front_chart,
    growth_chart,
    has_distribution,
    histogram_html,
    prediction_chart,
    tip_of,
)
from dynnas.report.page.html import bars_html, chart_html, pairs_html, picture_uri, table_html
from dynnas.report.plots.diagram import draw_diagram, draw_parts
from dynnas.report.prediction import prediction_table
from dynnas.report.study import comparison_table, study_table
from dynnas.report.summary import StudySummary
from dynnas.report.tables.cascades import cascades_table
from dynnas.report.tables.devices import devices_table
from dynnas.report.tables.rules import rules_table
from dynnas.report.tables.shelf import shelf_table
from dynnas.report.tables.trained import compressed_table, trained_table

_GENES = 12
_TIMES = (("mean_ms", "mean"), ("median_ms", "median"), ("p95_ms", "p95"), ("worst_ms", "worst"))


_CASCADES = (
    "An image goes to the next network until one is confident, as the task says it (of classes, by the "
    "largest softmax). Thresholds are fitted on the search images; test images had no part in that. Computed "
    "times are sums over what each image passes, by the networks' own times; the others are of whole "
    "cascades, over single images."
)


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    name: str
    title: str
    body: str


def front_section(summary: StudySummary) -> Section:
    """Return the section of the front, beside everything else that was evaluated, and as a table."""
    study = summary.study
    sentences = "".join(f"<p>{escape(sentence)}</p>" for sentence in conclusions(study))
    caption = "Each point is a network; touch one for what it is. Stars have something dynamic in them."
    if study.cascades:
        caption += " Diamonds are cascades of networks of the front."
    if study.space.table:
        caption = "Each point is a row of the table; touch one for what it is."
    chart = chart_html("front-chart", front_chart(study), caption)
    table = table_html(study_table(study)) if study.front else "<p>No candidate kept the limits so far.</p>"
    if cascades := study.cascades:
        table += f"<h3>Cascades of its networks</h3>{table_html(cascades_table(study, cascades))}"
        table += f'<p class="note">{_CASCADES}</p>'
    if devices := study.settings.devices:
        table += f"<h3>On each device</h3>{table_html(devices_table(study))}"
        for name in devices:
            said = f"The same networks by their latency on {name}, and the front there."
            table += chart_html(f"device-{name}", device_chart(study, name), said)
    compared = ""
    if study.controls.groups:
        compared = f"<h3>Compared with</h3>{table_html(comparison_table(study))}"
    if study.shelf:
        compared += f"<h3>From the shelf</h3>{table_html(shelf_table(study))}"
    if study.finished and not study.space.table:
        table += (
            '<p class="note">The chart ranks by what was measured in the trials; the table has the members '
            "measured once more, all together, and tested on images that nothing was chosen by.</p>"
        )
    return Section("front", "The front", f"{sentences}{chart}{table}{compared}")


def networks_section(summary: StudySummary) -> Section | None:
    """Return the section that draws every member of the front."""
    study, configs = summary.study, summary.configs
    drawings = {
        member.key: draw_diagram(configs[member.key], summary.shares(member))
        for member in study.front
        if member.key in configs
    }
    drawings |= {key: draw_parts(parts) for key, parts in summary.parts.items()}
    drawn = [member for member in study.front if member.key in drawings]
    if not drawn:
        return None
    picks = _picks(summary)
    cards = "".join(
        f'<article class="card" id="net-{member.key}"><h3><code>{member.key}</code>'
        + "".join(f' <span class="badge">{pick}</span>' for pick in picks.get(member.key, ()))
        + f'</h3><p class="facts">{"<br>".join(map(escape, tip_of(member, study)[1:4]))}</p>'
        + drawings[member.key]
        + _rules(summary, member.key)
        + "</article>"
        for member in drawn
    )
    beside = "its multiply-adds and weights" if summary.parts else "channels and pixels of what it hands on"
    keys = (
        '<p class="legend"><span class="key static">static layer</span><span class="key dynamic">dynamic '
        'layer</span><span class="key exit">exit</span></p><p class="note">A bar grows with the root of the '
        f"layer's channels; beside it are {beside}.</p>"
    )
    return Section("networks", "The networks", f'{keys}<div class="cards">{cards}</div>')


def _rules(summary: StudySummary, key: str) -> str:
    """Return the design rules that a network of a space file breaks, folded up; empty if there are none."""
    config = summary.configs.get(key)
    table = rules_table(config, key) if config is not None else None
    if table is None or not table.rows:
        return ""
    return f"<details><summary>Design rules that it breaks</summary>{table_html(table)}</details>"


def exit_images_section(summary: StudySummary) -> Section | None:
    """Return the section of images that leave early and late."""
    if not summary.exit_images:
        return None
    blocks = []
    for key, exits in summary.exit_images.items():
        rows = []
        for exit in exits:
            right = "" if exit.accuracy is None else f", {100 * exit.accuracy:.1f}% of them right"
            where = "reach the head" if exit.name == "head" else f"leave after {escape(exit.name)}"
            images = "".join(
                f'<figure class="{"right" if image.label == image.answer else "wrong"}">'
                f'<img src="{picture_uri(image.pixels)}" alt="{escape(image.label)}">'
                f"<figcaption>{escape(_said(image.label, image.answer))}<br>{image.confidence:.2f}"
                "</figcaption></figure>"
                for image in exit.examples
            )
            rows.append(
                f"<h4>{100 * exit.share:.1f}% {where}{right}</h4>"
                + (f'<div class="strip" tabindex="0">{images}</div>' if images else "")
            )
        blocks.append(f"<h3><code>{key}</code></h3>{''.join(rows)}")
    note = (
        '<p class="note">Images of the search split, with their class and the confidence they left with: the '
        "surest at each exit, the least sure at the head. Framed: the network was wrong.</p>"
    )
    return Section("leaving", "Who leaves early, who late", note + "".join(blocks))


def latency_section(summary: StudySummary) -> Section | None:
    """Return the section of how the times of images are spread, for every member.

    It goes image by image where that was timed.
    """
    study = summary.study
    timed = [member for member in study.front if {name for name, _ in _TIMES} <= member.metrics.keys()]
    if not timed:
        return None
    longest = max(member.metrics["worst_ms"] for member in timed)
    rows = "".join(_range(member, longest) for member in timed)
    keys = "".join(f'<span class="key {name}">{name}</span>' for _, name in _TIMES)
    note = (
        '<p class="note">One image at a time, on the target. A network without exits does the same work for '
        "every image: one value.</p>"
    )
    histograms = "".join(
        f"<h3><code>{member.key}</code>, image by image</h3>" + histogram_html(summary.latencies[member.key])
        for member in study.front
        if has_distribution(summary, member)
    )
    body = f'{note}<p class="legend">{keys}</p><ul class="ranges">{rows}</ul>{histograms}'
    return Section("latency", "Latency", body)


def growth_section(summary: StudySummary) -> Section | None:
    """Return the section of the hypervolume over the trials."""
    chart = growth_chart(summary.study)
    if chart is None:
        return None
    reference = summary.study.growth.reference
    point = ", ".join(f"{name} {value:.4g}" for name, value in reference.items())
    caption = f"Volume between the front and a point just beyond its ends: {escape(point)}."
    return Section("growth", "How the search went", chart_html("growth-chart", chart, caption))


def importance_section(summary: StudySummary) -> Section | None:
    """Return the section that ranks the choices by importance."""
    if not summary.importances:
        return None
    note = (
        '<p class="note">How much worse each metric is foretold on held-out candidates when one choice is '
        "shuffled (a random forest; percent of the metric's variance). A choice that only some networks have "
        "is shuffled among these; their share stands beside it.</p>"
    )
    body = "".join(_importance(found) for found in summary.importances)
    return Section("importance", "Which choices matter", f'{note}<div class="two">{body}</div>')


def trust_section(summary: StudySummary) -> Section | None:
    """Return the section that compares predictions and the supernet with what was measured and trained."""
    blocks = []
    if (chart := prediction_chart(summary.study)) and (table := prediction_table(summary.study)):
        caption = "Latency by the predictor against measured latency; on the line they agree."
        blocks.append(chart_html("prediction-chart", chart, caption) + table_html(table))
    if audit := summary.audit:
        caption = (
            f"{len(audit['networks'])} networks, trained alone for {audit['epochs']} epochs. {_taus(audit)}"
        )
        blocks.append(chart_html("audit-chart", audit_chart(audit), caption))
    if not blocks:
        return None
    body = '<div class="two">' + "".join(f"<div>{block}</div>" for block in blocks) + "</div>"
    return Section("trust", "How far to trust it", body)


def after_section(summary: StudySummary) -> Section | None:
    """Return the section on networks that were trained or compressed after the search."""
    study = summary.study
    tables = []
    if summary.trained:
        tables.append(trained_table(summary.trained, study.name))
    if summary.compressed:
        tables.append(compressed_table(summary.compressed, study.name))
    if not tables:
        return None
    body = "".join(f"<p>{escape(table.title)}</p>{table_html(table)}" for table in tables)
    return Section("after", "After the search", body)


def how_section(summary: StudySummary, command: str) -> Section:
    """Return the section of environment, settings, the command, and what is not shown."""
    study = summary.study
    blocks = [f"<h3>Again</h3><pre tabindex='0'><code>{escape(command)}</code></pre>"]
    if summary.environment:
        blocks.append(f"<h3>Where latencies were measured</h3>{pairs_html(summary.environment)}")
    facts = {
        "space": f"{study.space.name}, architectures: {study.space.size:,}",
        "sampler": study.settings.search.sampler,
        "trials": str(study.settings.search.trials),
        "digest of the space": study.record.space,
        "digest of the data": study.record.data,
    }
    blocks.append(f"<h3>Study</h3>{pairs_html(facts)}")
    if summary.missing:
        blocks.append(f"<h3>Not shown</h3>{pairs_html(dict(summary.missing))}")
    return Section("how", "How it was made", "".join(blocks))


def _picks(summary: StudySummary) -> dict[str, list[str]]:
    """Return the names by which members can be picked, by key."""
    front = summary.study.front
    named: dict[str, list[str]] = {}
    directions = {objective.direction for objective in front.objectives}
    names = ["knee"]
    names += ["fastest"] if "minimize" in directions else []
    names += ["most-accurate"] if "maximize" in directions else []
    for name in names:
        named.setdefault(front.pick(name).key, []).append(name)
    return named


def _said(label: str, answer: str) -> str:
    return label if label == answer else f"{label}, not {answer}"


def _range(member: ScoredArchitecture, longest: float) -> str:
    """Return a line from median to worst, with marks."""
    at = {name: 100 * member.metrics[metric] / longest for metric, name in _TIMES}
    text = f"{member.metrics['mean_ms']:.3g} ms"
    low = min(at.values())
    marks = "".join(f'<b class="{name}" style="left:{place:.2f}%"></b>' for name, place in at.items())
    title = ", ".join(f"{name} {member.metrics[metric]:.4g} ms" for metric, name in _TIMES)
    return (
        f'<li title="{title}"><span class="name"><code>{member.key[:8]}</code></span><span class="track">'
        f'<i style="left:{low:.2f}%;width:{at["worst"] - low:.2f}%"></i>{marks}</span>'
        f'<span class="value">{text}</span></li>'
    )


def _importance(found: Importances) -> str:
    genes = [gene for gene in found.genes if gene.loss > 0][:_GENES]
    longest = max((gene.loss for gene in genes), default=1.0)
    rows = [
        (
            gene.gene,
            gene.loss / longest,
            f"{100 * gene.loss:.1f}%" + (f" (in {100 * gene.active:.0f}%)" if gene.active < 1 else ""),
        )
        for gene in genes
    ]
    trust = "" if found.explained >= 0.5 else " That is little: do not lean on the order."
    return (
        f"<div><h3>{escape(found.metric)}</h3><p class='note'>The forest explains "
        f"{100 * found.explained:.0f}% of the variance over {found.candidates} candidates.{trust}</p>"
        f"{bars_html(rows)}</div>"
    )


def _taus(audit: Mapping[str, Any]) -> str:
    names: Sequence[tuple[str, str]] = (("kendall_tau", "Kendall's tau"), ("spearman", "Spearman"))
    if not any(audit.get(name) for name, _ in names):
        return "There is no rank correlation, for every network has the same score."
    return ", ".join(
        f"{title} {audit[name]['value']:.2f} (95%: {audit[name]['low']:.2f} to {audit[name]['high']:.2f})"
        for name, title in names
        if audit.get(name)
    )
