"""What the networks of this study are worth for a budget of computation: curves, tables, picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dynnas.metrics.budgeted import BudgetPoint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BUDGETS = (3e6, 4e6, 5e6, 6e6, 7e6, 8e6)
"""Expected multiply-adds at which curves are compared."""

BUDGETS_MS = (0.12, 0.15, 0.18, 0.21, 0.24)
"""Expected times."""


@dataclass(frozen=True)
class Result:
    """A network; tuples over seeds are in the order of the seeds.

    Attributes:
        exit_macs: multiply-adds of leaving at each exit, then at the head.
        exit_ms: times of the same in ONNX Runtime at batch 1; empty if they were not measured.
        anytime: test accuracy [%] of each exit over all images, of each seed.
        curves: the points of MSDNet's protocol, of each seed; none of a network without exits.
    """

    name: str
    exit_macs: tuple[int, ...]
    exit_ms: tuple[float, ...]
    anytime: tuple[tuple[float, ...], ...]
    curves: tuple[tuple[BudgetPoint, ...], ...]

    @property
    def dynamic(self) -> bool:
        """Whether images leave early."""
        return len(self.exit_macs) > 1

    @property
    def final(self) -> tuple[float, ...]:
        """Test accuracy [%] of the head, of each seed."""
        return tuple(exits[-1] for exits in self.anytime)

    def at(self, budget: float, cost: str = "macs") -> tuple[float, ...] | None:
        """Test accuracy [%] for an expected `macs` or `ms`, of each seed; None where a curve does not reach.

        Linear between the two points of a curve around it.
        """
        found = []
        for curve in filter(None, self.curves):
            points = [(getattr(point.test, cost), 100 * point.test.accuracy) for point in curve]
            points = sorted(point for point in points if point[0] is not None)
            if not points or not points[0][0] <= budget <= points[-1][0]:
                return None
            found.append(float(np.interp(budget, *zip(*points, strict=True))))
        return tuple(found) or None


def spread(accuracies: Sequence[float] | None) -> str:
    """Mean and standard deviation over the seeds."""
    if not accuracies:
        return "–"
    deviation = f" ± {np.std(accuracies, ddof=1):.2f}" if len(accuracies) > 1 else ""
    return f"{np.mean(accuracies):.2f}{deviation}"


def tables(results: Sequence[Result]) -> str:
    """Each exit, then accuracies at equal expected cost, in Markdown."""
    lines = ["| network | MMACs of each exit | ms | test accuracy of each exit [%] |", "|" + " --- |" * 4]
    for result in results:
        macs = ", ".join(f"{count / 1e6:.2f}" for count in result.exit_macs)
        ms = ", ".join(f"{time:.3f}" for time in result.exit_ms) or "–"
        exits = ", ".join(spread(exit) for exit in zip(*result.anytime, strict=True))
        lines.append(f"| {result.name} | {macs} | {ms} | {exits} |")
    lines += _at_equal(results, "macs", {macs: f"{macs / 1e6:g} MMACs" for macs in BUDGETS})
    lines += _at_equal(results, "ms", {ms: f"{ms:g} ms" for ms in BUDGETS_MS})
    return "\n".join(lines)


def _at_equal(results: Sequence[Result], cost: str, budgets: Mapping[float, str]) -> list[str]:
    """A table; what a network costs at most stands in the last column."""
    head = " | ".join(budgets.values())
    lines = ["", f"| network | {head} | at most |", "|" + " --- |" * (len(budgets) + 2)]
    for result in results:
        cells = " | ".join(spread(result.at(budget, cost)) for budget in budgets)
        ends = result.exit_ms if cost == "ms" else tuple(macs / 1e6 for macs in result.exit_macs)
        most = f"{spread(result.final)}" + (f" at {ends[-1]:.2f}" if ends else "")
        lines.append(f"| {result.name} | {cells} | {most} |")
    return lines


def draw(results: Sequence[Result], path: Path) -> None:
    """Test accuracy against expected cost: a curve for each seed, and every exit alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.2), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    by_macs, by_ms = figure.subplots(1, 2, sharey=True)
    _panel(by_macs, results, "macs")
    _panel(by_ms, results, "ms")
    by_macs.set_xlabel("expected multiply-adds of an image [millions]")
    by_ms.set_xlabel("expected time of an image [ms]")
    by_macs.set_ylabel("test accuracy [%]")
    by_macs.legend(loc="lower right", title="lines: budgeted batches; squares: one exit for all")
    figure.savefig(path)


def _panel(axes: Axes, results: Sequence[Result], cost: str) -> None:
    colours = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7")
    for result, colour in zip(results, colours, strict=False):
        ends = result.exit_ms if cost == "ms" else tuple(macs / 1e6 for macs in result.exit_macs)
        scale = 1e-6 if cost == "macs" else 1.0
        label = result.name
        for curve, exits in zip(result.curves, result.anytime, strict=True):
            if not ends:
                continue
            if result.dynamic:
                points = sorted(
                    (scale * getattr(point.test, cost), 100 * point.test.accuracy) for point in curve
                )
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, label=label)
            style = {"markersize": 5, "alpha": 0.6}
            axes.plot(ends, exits, "s", color=colour, label="" if result.dynamic else label, **style)
            label = ""
    axes.grid(visible=True, alpha=0.25)
