"""What the networks of this study are worth for a budget of computation: curves, tables, picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dynnas.measure.budget import BudgetPoint

BUDGETS = (3e6, 4e6, 5e6, 6e6, 7e6, 8e6)
"""Expected multiply-adds at which curves are compared."""


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

    def at(self, macs: float) -> tuple[float, ...] | None:
        """Test accuracy [%] for an expected cost, of each seed; None where a curve does not reach.

        Linear between the two points of a curve around it.
        """
        found = []
        for curve in filter(None, self.curves):
            points = sorted((point.test.macs, 100 * point.test.accuracy) for point in curve)
            costs, accuracies = zip(*points, strict=True)
            if not costs[0] <= macs <= costs[-1]:
                return None
            found.append(float(np.interp(macs, costs, accuracies)))
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
    head = " | ".join(f"{macs / 1e6:g} MMACs" for macs in BUDGETS)
    lines += ["", f"| network | {head} | at most |", "|" + " --- |" * (len(BUDGETS) + 2)]
    for result in results:
        cells = [spread(result.at(macs)) for macs in BUDGETS]
        most = f"{spread(result.final)} at {result.exit_macs[-1] / 1e6:.2f}"
        lines.append(f"| {result.name} | {' | '.join(cells)} | {most} |")
    return "\n".join(lines)


def draw(results: Sequence[Result], path: Path) -> None:
    """Test accuracy against expected multiply-adds: a curve for each seed, and every exit alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colours = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7")
    figure = Figure(figsize=(8.5, 5.5), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for result, colour in zip(results, colours, strict=False):
        macs = np.array(result.exit_macs) / 1e6
        label = result.name
        for curve, exits in zip(result.curves, result.anytime, strict=True):
            points = sorted((point.test.macs / 1e6, 100 * point.test.accuracy) for point in curve)
            if result.dynamic:
                axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, label=label)
            axes.plot(
                macs, exits, "s", color=colour, markersize=5, label="" if result.dynamic else label, alpha=0.6
            )
            label = ""
    axes.set_xlabel("expected multiply-adds of an image [millions]")
    axes.set_ylabel("test accuracy [%]")
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="lower right", title="lines: budgeted batches; squares: one exit for all")
    figure.savefig(path)
