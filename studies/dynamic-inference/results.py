"""What networks that decide per image are worth beside static ones: numbers, tables, picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from networks import LADDERS

COSTS = ("ms", "macs")


@dataclass(frozen=True)
class Point:
    """A network; tuples are over the seeds, empty where nothing was measured.

    Attributes:
        accuracy: on the test images [%].
        macs: of an image in the mean over the test images.
        policies: how many different ways they take.
        ms, p50_ms, p95_ms: at batch 1: mean, median and 95th percentile over images.
        family, budget: of one that decides per image.
    """

    name: str
    accuracy: tuple[float, ...]
    macs: tuple[float, ...]
    policies: tuple[int, ...]
    ms: tuple[float, ...] = ()
    p50_ms: tuple[float, ...] = ()
    p95_ms: tuple[float, ...] = ()
    family: str = "static"
    budget: float | None = None

    def cost(self, name: str) -> float | None:
        """The mean over the seeds, if it was measured."""
        values = getattr(self, name)
        return float(np.mean(values)) if values else None


@dataclass(frozen=True)
class Comparison:
    """A network beside a static one of equal cost.

    Attributes:
        ladder: along which the static one stands, the most accurate there: `width`, `depth` or `resolution`.
        static: its accuracy [%] with each seed.
        gain: what the network has over it, in points, in the mean over the seeds.
        beyond: the ladder ends before: -1 the network costs less than its smallest, which is rather too good
            a control, 1 more than its largest, 0 neither.
    """

    ladder: str
    static: tuple[float, ...]
    gain: float
    beyond: int


def compare(point: Point, statics: Mapping[str, Point]) -> dict[str, Comparison]:
    """With static networks of equal time and of equal multiply-adds, where both were measured."""
    found = {}
    for name in COSTS:
        value = point.cost(name)
        if value is None or any(static.cost(name) is None for static in statics.values()):
            continue
        by_ladder = []
        for ladder, rungs in LADDERS.items():
            static, beyond = static_at([statics[rung.name] for rung in rungs], name, value)
            gain = float(np.mean(point.accuracy) - np.mean(static))
            by_ladder.append(Comparison(ladder, static, gain, beyond))
        found[name] = min(by_ladder, key=lambda each: each.gain)
    return found


def static_at(ladder: Sequence[Point], cost: str, value: float) -> tuple[tuple[float, ...], int]:
    """The accuracy [%] with each seed of a static network that costs `value`; on which side the ladder ends.

    Between two of the ladder's networks it is linear in the logarithm of the cost. One that costs no less
    than a later one (odd widths may be slower) is left out.
    """
    rungs: list[Point] = []
    for rung in reversed(ladder):
        if not rungs or (rung.cost(cost) or 0) < (rungs[0].cost(cost) or 0):
            rungs.insert(0, rung)
    places = np.log([rung.cost(cost) or np.nan for rung in rungs])
    by_seed = zip(*(rung.accuracy for rung in rungs), strict=True)
    static = tuple(float(np.interp(np.log(value), places, scores)) for scores in by_seed)
    return static, int(np.log(value) > places[-1] + 1e-9) - int(np.log(value) < places[0] - 1e-9)


def tables(
    statics: Mapping[str, Point],
    learned: Sequence[Point],
    controls: Mapping[str, Point],
    comparisons: Mapping[str, Mapping[str, Comparison]],
) -> str:
    """All networks, then those that decide beside static ones, then beside their controls, in Markdown."""
    head = ("network", "MMACs", "mean ms", "p50 ms", "p95 ms", "policies", "test accuracy [%]")
    lines = _head(head)
    for point in (*statics.values(), *learned):
        times = (_number(point.cost(name), "{:.4f}") for name in ("ms", "p50_ms", "p95_ms"))
        policies = " / ".join(map(str, point.policies))
        macs = _number(point.cost("macs"), "{:.2f}", 1e-6)
        lines.append(_row(point.name, macs, *times, policies, spread(point.accuracy)))
    lines += ["", *_head(("network", "static of equal time: gain", "static of equal multiply-adds: gain"))]
    for name, by_cost in comparisons.items():
        lines.append(_row(name, *(_comparison(by_cost.get(cost)) for cost in COSTS)))
    kinds = ("constant", "random", "constant, tuned", "random, tuned")
    lines += ["", *_head(("network", "learned", *kinds))]
    for point in learned:
        cells = (_beside(controls.get(f"{point.name}, {kind}")) for kind in kinds)
        lines.append(_row(point.name, _beside(point), *cells))
    return "\n".join(lines)


def spread(accuracy: Sequence[float]) -> str:
    """Mean and standard deviation over the seeds."""
    deviation = f" ± {np.std(accuracy, ddof=1):.2f}" if len(accuracy) > 1 else ""
    return f"{np.mean(accuracy):.2f}{deviation}" if accuracy else "–"


def _head(names: Sequence[str]) -> list[str]:
    return [_row(*names), "|" + " --- |" * len(names)]


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _number(value: float | None, form: str, times: float = 1.0) -> str:
    return "–" if value is None else form.format(times * value)


def _comparison(found: Comparison | None) -> str:
    if found is None:
        return "–"
    sign = {-1: "≥ ", 0: "", 1: "≤ "}[found.beyond]
    return f"{spread(found.static)} ({found.ladder}): {sign}{found.gain:+.2f}"


def _beside(point: Point | None) -> str:
    if point is None:
        return "–"
    return f"{spread(point.accuracy)} at {_number(point.cost('macs'), '{:.2f}', 1e-6)}"


def draw(statics: Mapping[str, Point], learned: Sequence[Point], path: Path) -> None:
    """Accuracy against time and against multiply-adds: the static ladders, and a line for each family."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = matplotlib.colormaps["tab20"].colors
    figure = Figure(figsize=(13, 5.4), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    labels = {"ms": "mean time of an image [ms]", "macs": "mean multiply-adds of an image [millions]"}
    for axes, cost in zip(panels, COSTS, strict=True):
        lines = [
            (f"static, by {ladder}", [statics[rung.name] for rung in rungs], "black", style, "s")
            for (ladder, rungs), style in zip(LADDERS.items(), ("-", "--", "-."), strict=True)
        ]
        for number, family in enumerate(dict.fromkeys(point.family for point in learned)):
            points = [point for point in learned if point.family == family]
            marker = "oDv^<>PXph*d"[number % 12]
            lines.append((family, points, colours[number % len(colours)], ":", marker))
        for label, points, colour, style, marker in lines:
            shown = sorted((point for point in points if point.cost(cost)), key=lambda p: p.cost(cost) or 0)
            if not shown:
                continue
            places = [(point.cost(cost) or 0) * (1e-6 if cost == "macs" else 1) for point in shown]
            means = np.array([np.mean(point.accuracy) for point in shown])
            below = means - [min(point.accuracy) for point in shown]
            above = [max(point.accuracy) for point in shown] - means
            axes.errorbar(
                places, means, [below, above], label=label, color=colour, linestyle=style, marker=marker,
                markersize=7, capsize=2, elinewidth=1, linewidth=1.3, markeredgecolor="black",
            )  # fmt: skip
        axes.set_xlabel(labels[cost])
        axes.grid(visible=True, alpha=0.25)
    panels[0].set_ylabel("test accuracy [%], mean of the seeds")
    panels[1].legend(loc="lower right", framealpha=0.9, fontsize=8)
    figure.savefig(path)
