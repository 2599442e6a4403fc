"""What the networks of this study are worth beside static ones of equal cost: numbers, tables, picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COSTS = {"macs": "multiply-adds", "params": "parameters", "latency_ms": "latency [ms]"}
BASES = {"width": "width", "macs": "multiply-adds", "params": "parameters", "latency_ms": "latency"}
"""What a static network may have in common with a dynamic one."""


@dataclass(frozen=True)
class Result:
    """A network: what it costs, and its test accuracy [%] with each seed."""

    name: str
    costs: Mapping[str, float]
    accuracy: tuple[float, ...]


@dataclass(frozen=True)
class Comparison:
    """A network beside static ones that have one thing in common with it.

    Attributes:
        static: accuracy [%] of the static networks with each seed.
        gain: what the network has over them, in points: the difference of the means.
        interval: of the gain, 95%, by Student's t for equal variances; None for a single seed.
        beyond: the ladder of static networks ends before; `static` is its last one, which costs less, so
            that the gain is rather too large.
    """

    static: tuple[float, ...]
    gain: float
    interval: tuple[float, float] | None
    beyond: bool


def compare(result: Result, twin: Result, ladder: Sequence[Result]) -> dict[str, Comparison]:
    """`result` against its static `twin` of the same widths, and the static `ladder` at each cost."""
    comparisons = {"width": _comparison(result.accuracy, twin.accuracy, beyond=False)}
    for cost in COSTS:
        static, beyond = static_at(ladder, cost, result.costs[cost])
        comparisons[cost] = _comparison(result.accuracy, static, beyond)
    return comparisons


def static_at(ladder: Sequence[Result], cost: str, value: float) -> tuple[tuple[float, ...], bool]:
    """The accuracy [%] with each seed of a static network that costs `value`; whether the ladder ends before.

    Between two of the ladder's networks it is linear in the logarithm of the cost. A width that costs no less
    than a wider one (odd widths may be slower) is left out.
    """
    rungs: list[Result] = []
    for rung in reversed(ladder):
        if not rungs or rung.costs[cost] < rungs[0].costs[cost]:
            rungs.insert(0, rung)
    places = [np.log(rung.costs[cost]) for rung in rungs]
    by_seed = zip(*(rung.accuracy for rung in rungs), strict=True)
    static = tuple(float(np.interp(np.log(value), places, scores)) for scores in by_seed)
    return static, value > rungs[-1].costs[cost]


def _comparison(dynamic: tuple[float, ...], static: tuple[float, ...], beyond: bool) -> Comparison:
    gain = float(np.mean(dynamic) - np.mean(static))
    interval = None
    if len(dynamic) > 1:
        found = stats.ttest_ind(dynamic, static).confidence_interval(0.95)
        interval = (float(found.low), float(found.high))
    return Comparison(static, gain, interval, beyond)


def tables(results: Sequence[Result], comparisons: Mapping[str, Mapping[str, Comparison]]) -> str:
    """Costs and accuracies, then the comparisons, in Markdown."""
    lines = ["| network | MACs | parameters | latency [ms] | test accuracy |", "|" + " --- |" * 5]
    for result in results:
        macs, params, latency = (result.costs[cost] for cost in COSTS)
        lines.append(
            f"| {result.name} | {macs:,} | {params:,} | {latency:.4f} | {_spread(result.accuracy)} |"
        )
    bases = " | ".join(f"static of equal {base}: gain" for base in BASES.values())
    lines += ["", f"| network | {bases} |", "|" + " --- |" * (1 + len(BASES))]
    for name, by_base in comparisons.items():
        lines.append(f"| {name} | {' | '.join(_cell(by_base[base]) for base in BASES)} |")
    return "\n".join(lines)


def _spread(accuracy: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = f" ± {np.std(accuracy, ddof=1):.2f}" if len(accuracy) > 1 else ""
    return f"{np.mean(accuracy):.2f}{deviation}"


def _cell(comparison: Comparison) -> str:
    """The static network's accuracy, and the gain over it; bold where the interval leaves out zero."""
    gain = f"{'≤ ' if comparison.beyond else ''}{comparison.gain:+.2f}"
    if comparison.interval is not None:
        low, high = comparison.interval
        gain += f" [{low:+.2f}, {high:+.2f}]"
        gain = f"**{gain}**" if low > 0 or high < 0 else gain
    return f"{_spread(comparison.static)}: {gain}"


def draw(results: Sequence[Result], ladder: Sequence[Result], path: Path) -> None:
    """Accuracy against each cost: the static ladder as a line, all else as points."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter, StrMethodFormatter

    colours = ("#D55E00", "#56B4E9", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#999999", "#F0E442")
    figure = Figure(figsize=(14, 5.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    for axes, (cost, label) in zip(panels, COSTS.items(), strict=True):
        others = [result for result in results if result not in ladder]
        _bars(axes, ladder, cost, "static, by width", "black", fmt="-s", linewidth=1.4, markersize=4)
        for number, result in enumerate(others):
            colour, marker = colours[number % len(colours)], "oDv^<>PX"[number % 8]
            _bars(
                axes, [result], cost, result.name, colour, fmt=marker, markersize=8, markeredgecolor="black"
            )
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(
            StrMethodFormatter("{x:g}") if cost == "latency_ms" else EngFormatter(sep="")
        )
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label)
        axes.grid(visible=True, alpha=0.25, which="both")
    panels[0].set_ylabel("test accuracy [%], mean of the seeds")
    panels[0].legend(loc="lower right", framealpha=0.9, fontsize=8)
    figure.savefig(path)


def _bars(axes: Axes, results: Sequence[Result], cost: str, label: str, colour: str, **style: Any) -> None:
    """Mean accuracies of `results`, with bars from the worst to the best seed."""
    means = np.array([np.mean(result.accuracy) for result in results])
    below = means - [min(result.accuracy) for result in results]
    above = [max(result.accuracy) for result in results] - means
    places = [result.costs[cost] for result in results]
    axes.errorbar(places, means, [below, above], label=label, color=colour, capsize=2, elinewidth=1, **style)
