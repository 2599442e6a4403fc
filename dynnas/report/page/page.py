"""The whole page: head, tiles and sections, with style and script inside, so that it needs no other file."""

from __future__ import annotations

from html import escape
from importlib import resources

from dynnas.report.page import sections
from dynnas.report.page.sections import Section
from dynnas.report.plots.axes import axes_of
from dynnas.report.study import title_of
from dynnas.report.summary import StudySummary
from dynnas.report.verdict import score_of, verdict
from dynnas.study.study import Study


def html_page(summary: StudySummary, command: str) -> str:
    """Return a page that a browser shows without any request to a network.

    Args:
        summary: of a study.
        command: that makes the study again.
    """
    study = summary.study
    parts = [
        sections.front_section(summary),
        sections.networks_section(summary),
        sections.exit_images_section(summary),
        sections.latency_section(summary),
        sections.growth_section(summary),
        sections.importance_section(summary),
        sections.trust_section(summary),
        sections.after_section(summary),
        sections.how_section(summary, command),
    ]
    there = [part for part in parts if part]
    links = "".join(f'<a href="#{part.name}">{escape(part.title)}</a>' for part in there)
    name, _, about = title_of(study).partition(": ")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<link rel="icon" href="data:,">
<title>{escape(name)}, a dynnas study</title>
<style>
{_file("style.css")}</style>
</head>
<body>
<header><p class="kind">dynnas study{"" if study.finished else ", still running"}</p>
<h1>{escape(name)}</h1><p>{escape(about)}</p>{_verdict(study)}{_tiles(study)}<nav>{links}</nav></header>
<main>
{"".join(map(_section, there))}
</main>
<script>
{_file("script.js")}</script>
</body>
</html>
"""


def _section(section: Section) -> str:
    return f'<section id="{section.name}"><h2>{escape(section.title)}</h2>\n{section.body}\n</section>\n'


def _verdict(study: Study) -> str:
    """Return what taking the knee means, its first sentence in larger letters."""
    first, _, rest = verdict(study).partition(". ")
    if not first:
        return ""
    return f'<p class="verdict"><strong>{escape(first)}.</strong> {escape(rest)}</p>'


def _tiles(study: Study) -> str:
    """Return tiles with the ends and the knee of the front, in large figures."""
    if not study.front:
        return ""
    axes = axes_of(study)
    score = score_of(axes, study.front)
    where = ", test images" if score != axes.gain else ""
    tiles = []
    for pick in ("fastest", "knee", "most-accurate"):
        direction = {"fastest": "minimize", "most-accurate": "maximize"}.get(pick)
        if direction and direction not in {objective.direction for objective in study.front.objectives}:
            continue
        member = study.front.pick(pick)
        gain = axes.unit * member.metrics[score]
        cost = member.metrics[axes.cost]
        good = f"{gain:.2f}%" if axes.unit != 1 else f"{gain:.4g}"
        spent = f"{cost:.3g} ms" if axes.cost.endswith("_ms") else f"{axes.cost} {cost:.4g}"
        tiles.append(
            f"<li><span>{pick}{where}</span><strong>{escape(good)}</strong><span>{escape(spent)}</span></li>"
        )
    return f'<ul class="tiles">{"".join(tiles)}</ul>'


def _file(name: str) -> str:
    return resources.files("dynnas.report.page").joinpath(name).read_text(encoding="utf-8")
