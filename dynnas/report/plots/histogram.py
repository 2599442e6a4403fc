"""The picture of a distribution: how many images took how long, by the exit that they left by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dynnas.report.plots.front import COLOURS

BINS = 60


@dataclass(frozen=True)
class Histogram:
    """The numbers that `draw_histogram` shows.

    Attributes:
        title: above the plot.
        groups: milliseconds of the images in each, by its name; some may be empty.
        lines: milliseconds to mark, by their names.
        interval_ms: what noise leaves open of the mean.
    """

    title: str
    groups: Mapping[str, Sequence[float]]
    lines: Mapping[str, float]
    interval_ms: tuple[float, float]


def draw_histogram(histogram: Histogram, path: Path) -> None:
    """Write `histogram` as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 4.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    groups = {name: list(values) for name, values in histogram.groups.items() if values}
    total = sum(map(len, groups.values()))
    axes.hist(
        list(groups.values()),
        bins=BINS,
        stacked=True,
        color=[COLOURS[index % len(COLOURS)] for index in range(len(groups))],
        label=[f"{name} ({100 * len(values) / total:.0f}%)" for name, values in groups.items()],
    )
    low, high = histogram.interval_ms
    axes.axvspan(
        low, high, color="black", alpha=0.2, label=f"95% interval of the mean, {low:.4g}..{high:.4g}"
    )
    for (name, ms), style in zip(histogram.lines.items(), ("-", "--", ":"), strict=False):
        axes.axvline(ms, color="black", linestyle=style, linewidth=1.2, label=f"{name} {ms:.4g}")
    axes.set(title=histogram.title, xlabel="latency of an image at batch 1 [ms]", ylabel="images")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(framealpha=0.9, loc="upper right")  # to look for the best place may take seconds
    figure.savefig(path)
