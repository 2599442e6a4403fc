"""Accuracy against expected cost of one network: as tables, as a document, and as a plot."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from dynnas.files import atomic_write
from dynnas.metrics.budgeted import NEVER, BudgetPoint
from dynnas.report.tables.table import Column, Table
from dynnas.study.study import Study
from dynnas.workflows.budget import Budget


@dataclass(frozen=True)
class BudgetReport:
    """A network's accuracy at every budget, with the study that it belongs to."""

    study: Study
    budget: Budget

    @property
    def title(self) -> str:
        """The network and its study, in words."""
        return f"{self.budget.key} of {self.study.name}"

    def tables(self) -> tuple[Table, Table]:
        """Return the tables of anytime prediction and of budgeted batches."""
        return _anytime_table(self), _points_table(self)

    def write_document(self) -> Path:
        """Keep all values in the study's folder, and say where."""
        path = self._path("json")
        atomic_write(path, json.dumps(self.budget.to_dict(), indent=2) + "\n")
        return path

    def write_plot(self) -> Path:
        """Draw the curve into the study's folder, and say where."""
        path = self._path("png")
        draw_budget(self.budget, self.title, path)
        return path

    def _path(self, ending: str) -> Path:
        folder = self.study.folder.budgets
        folder.mkdir(exist_ok=True)
        return folder / f"{self.budget.key}.{ending}"


def _anytime_table(report: BudgetReport) -> Table:
    budget = report.budget
    timed = bool(budget.way_ms)
    names = ("leaves at", "MMACs", *(("mean ms",) if timed else ()), "search %", "test %")
    rows = []
    for index, way in enumerate(budget.ways):
        ms = (_ms(budget.way_ms[index]),) if timed else ()
        accuracies = (budget.search_anytime[index], budget.test_anytime[index])
        rows.append((way, _millions(budget.exit_macs[index]), *ms, *map(_percent, accuracies)))
    title = f"{report.title}: anytime prediction, all images leaving at one exit"
    return Table(title, _columns(names), tuple(rows))


def _points_table(report: BudgetReport) -> Table:
    budget = report.budget
    timed = bool(budget.way_ms)
    names = (
        "quota",
        "thresholds",
        "leave % (test)",
        "MMACs",
        *(("mean ms",) if timed else ()),
        "search %",
        "test %",
    )
    rows = tuple(_row(point, timed) for point in budget.points)
    title = (
        f"{report.title}: budgeted batches, thresholds fitted on the search split; cost and times are "
        "those of the test split"
    )
    return Table(title, _columns(names), rows)


def _row(point: BudgetPoint, timed: bool) -> tuple[str, ...]:
    return (
        f"{point.quota:g}",
        " ".join("never" if threshold == NEVER else f"{threshold:.3f}" for threshold in point.thresholds),
        " ".join(f"{100 * share:.0f}" for share in point.test.shares),
        _millions(point.test.macs),
        *((_ms(point.test.ms),) if timed else ()),
        _percent(point.search.accuracy),
        _percent(point.test.accuracy),
    )


def _columns(names: tuple[str, ...]) -> tuple[Column, ...]:
    words = ("leaves at", "thresholds", "leave % (test)")
    return tuple(Column(name, numeric=name not in words) for name in names)


def _millions(macs: float) -> str:
    return f"{macs / 1e6:.3f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _ms(ms: float | None) -> str:
    return "" if ms is None else f"{ms:.4f}"


def draw_budget(budget: Budget, title: str, path: Path) -> None:
    """Write test accuracy against expected multiply-adds as a PNG file: the curve, and each exit alone."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = sorted(budget.points, key=lambda point: point.test.macs)
    axes.plot(
        [point.test.macs / 1e6 for point in points],
        [100 * point.test.accuracy for point in points],
        "-o",
        color="#0072B2",
        markersize=3,
        label="budgeted batches",
    )
    axes.plot(
        [macs / 1e6 for macs in budget.exit_macs],
        [100 * accuracy for accuracy in budget.test_anytime],
        "s",
        color="#D55E00",
        label="all images at one exit",
    )
    axes.set_xlabel("expected multiply-adds of an image [millions]")
    axes.set_ylabel("accuracy on the test images [%]")
    axes.set_title(title)
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="lower right")
    figure.savefig(path)
