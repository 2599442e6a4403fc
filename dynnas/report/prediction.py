"""Predicted against measured latencies, as tables and as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dynnas.latency.predictor.predictor import Agreement
from dynnas.pareto.front import ScoredArchitecture
from dynnas.report.tables.table import Column, Table
from dynnas.study.study import Study
from dynnas.workflows.calibrate import Calibrated

_COLUMNS = (
    Column("compared"),
    Column("networks", numeric=True),
    Column("Kendall's tau", numeric=True),
    Column("Spearman", numeric=True),
    Column("within 5%", numeric=True),
    Column("within 10%", numeric=True),
    Column("median difference %", numeric=True),
)
_LEAST = 3


def calibration_table(calibrated: Calibrated) -> Table:
    """Return a table of the errors of predictions for networks held out, and of a second measurement."""
    found = calibrated.calibration
    rows = (
        _row("predicted and measured", found.agreement),
        _row("measured twice (noise)", found.noise),
    )
    title = (
        f"latency predictor from {found.networks} networks and {found.pieces} pieces, on networks it has not "
        f"seen; written to {calibrated.path}"
    )
    return Table(title, _COLUMNS, rows)


def prediction_table(study: Study) -> Table | None:
    """Compare predicted with measured latencies of a study; None if it has no predictor."""
    known = predicted_and_measured((*study.candidates, *study.controls.static))
    if len(known) < _LEAST:
        return None
    predicted, measured = np.array(known).T
    return Table(
        "predicted and measured latencies of candidates",
        _COLUMNS,
        (_row("predicted and measured", Agreement.of(predicted, measured)),),
    )


def predicted_and_measured(candidates: Sequence[ScoredArchitecture]) -> list[tuple[float, float]]:
    """Return predicted and measured latencies [ms] of the candidates that have both."""
    return [
        (candidate.metrics["predicted_ms"], candidate.metrics["latency_ms"])
        for candidate in candidates
        if {"predicted_ms", "latency_ms"} <= candidate.metrics.keys()
    ]


def draw_prediction(calibrated: Calibrated) -> Path:
    """Draw the networks held out, predicted against measured, into `calibrated.picture`."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    found = calibrated.calibration
    figure = Figure(figsize=(5.5, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    every = np.array([*found.predicted_ms, *found.measured_ms, *found.again_ms])
    ends = np.array([0.9 * every.min(), 1.1 * every.max()])
    axes.fill_between(ends, 0.95 * ends, 1.05 * ends, color="#0072B2", alpha=0.15, label="within 5%")
    axes.plot(ends, ends, color="#0072B2", linewidth=1)
    axes.scatter(found.measured_ms, found.again_ms, color="#9A9A9A", marker="x", label="measured again")
    axes.scatter(found.measured_ms, found.predicted_ms, color="#D55E00", s=18, label="predicted")
    axes.set(
        xscale="log",
        yscale="log",
        xlim=ends,
        ylim=ends,
        aspect="equal",
        xlabel="measured latency [ms]",
        ylabel="predicted, or measured again [ms]",
        title=f"{found.agreement.networks} networks that the predictor had not seen",
    )
    axes.grid(visible=True, alpha=0.25, which="both")
    axes.legend(loc="upper left")
    figure.savefig(calibrated.picture)
    return calibrated.picture


def _row(name: str, agreement: Agreement) -> tuple[str, ...]:
    return (
        name,
        str(agreement.networks),
        f"{agreement.kendall_tau:.3f}",
        f"{agreement.spearman:.3f}",
        f"{100 * agreement.within_5:.0f}%",
        f"{100 * agreement.within_10:.0f}%",
        f"{100 * agreement.median_error:.1f}",
    )
