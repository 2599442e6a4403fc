"""The tables and the picture of this study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

Rows = Sequence[Mapping[str, Any]]

REFERENCES = {"channels": ("fresh", "fresh, as long"), "weights": ("fresh",)}
"""The ways beside which those of a family are put."""


def difference(found: Mapping[int, float], other: Mapping[int, float]) -> tuple[float, float | None]:
    """Return the mean difference over the seeds that both have, and half of its 95% interval.

    Seeds are pairs: both began with the same dense network. The interval is Student's; None for one seed.
    """
    gains = np.array([found[seed] - other[seed] for seed in sorted(found.keys() & other.keys())])
    if len(gains) < 2:
        return float(gains.mean()), None
    half = stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains))
    return float(gains.mean()), float(half)


def accuracies(rows: Rows, data: str, family: str, way: str) -> dict[int, float]:
    """Return test accuracies in percent by seed."""
    wanted = (data, family, way)
    return {
        row["seed"]: 100 * row["test_accuracy"]
        for row in rows
        if (row["data"], row["family"], row["way"]) == wanted
    }


def tables(rows: Rows) -> str:
    """Return one table for each data set, in Markdown."""
    return "\n\n".join(_table(rows, data) for data in dict.fromkeys(row["data"] for row in rows))


def _table(rows: Rows, data: str) -> str:
    heads = ("family", "way", "test accuracy [%]", "mean", "beside `fresh`", "beside `fresh, as long`")
    heads = (*heads, "MMACs", "weights", "ms", "training [s]")
    lines = [f"{data}:", "", f"| {' | '.join(heads)} |", "|" + " --- |" * len(heads)]
    own = [row for row in rows if row["data"] == data]
    for family, way in dict.fromkeys((row["family"], row["way"]) for row in own):
        found = accuracies(rows, data, family, way)
        same = [row for row in own if (row["family"], row["way"]) == (family, way)]
        beside = [
            _gain(found, accuracies(rows, data, family, other))
            if other in REFERENCES.get(family, ()) and other != way
            else "–"
            for other in REFERENCES["channels"]
        ]
        cells = [
            family,
            way,
            ", ".join(f"{score:.1f}" for score in found.values()),
            f"{np.mean(list(found.values())):.1f}",
            *beside,
            f"{same[0]['macs'] / 1e6:.2f}",
            f"{np.mean([row['weights_left'] for row in same]):,.0f}",
            f"{np.median([row['ms'] for row in same]):.3f}",
            f"{np.mean([row['all_seconds'] for row in same]):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _gain(found: Mapping[int, float], other: Mapping[int, float]) -> str:
    gain, half = difference(found, other)
    if half is None:
        return f"{gain:+.1f}"
    text = f"{gain:+.1f} ± {half:.1f}"
    return f"**{text}**" if abs(gain) > half else text


def draw(rows: Rows, path: Path) -> None:
    """Draw the test accuracy of every way: a point for each seed, and a line at the mean."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    data = list(dict.fromkeys(row["data"] for row in rows))
    figure = Figure(figsize=(5.5 * len(data), 5.0), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    colours = {"dense": "#555555", "channels": "#0072B2", "weights": "#D55E00"}
    for axes, name in zip(np.atleast_1d(figure.subplots(1, len(data))), data, strict=True):
        ways = list(dict.fromkeys((row["family"], row["way"]) for row in rows if row["data"] == name))
        for place, (family, way) in enumerate(ways):
            scores = list(accuracies(rows, name, family, way).values())
            axes.plot(scores, [place] * len(scores), "o", color=colours[family], alpha=0.6)
            axes.plot([np.mean(scores)] * 2, [place - 0.35, place + 0.35], color=colours[family], lw=2)
        axes.set_yticks(range(len(ways)), [f"{family}: {way}" for family, way in ways])
        axes.invert_yaxis()
        axes.set_xlabel("test accuracy [%]")
        axes.set_title(name)
        axes.grid(visible=True, axis="x", alpha=0.3)
    figure.savefig(path)
