"""An audit as a table and a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dynnas.report.plots.front import COLOURS
from dynnas.report.tables.table import Column, Table, count
from dynnas.study.records.audit import Audit


def audit_table(audit: Audit, name: str) -> Table:
    """Return a table of every audited network, and the rank correlation of inherited and own weights."""
    metric = audit.metric
    columns = (
        Column("key"),
        Column("front"),
        Column("MACs", numeric=True),
        Column("inherited %" if metric.share else "inherited", numeric=True),
        Column("alone %" if metric.share else "alone", numeric=True),
        *(Column(f"seed {seed}", numeric=True) for seed in range(audit.seeds) if audit.seeds > 1),
    )
    rows = tuple(
        (
            network.key,
            "yes" if network.on_front else "",
            count(network.macs),
            metric.text(network.inherited),
            metric.text(network.alone),
            *(metric.text(score) for score in network.by_seed if audit.seeds > 1),
        )
        for network in audit.networks
    )
    return Table(
        f"{name}: {metric.name} on search images after {audit.epochs} epochs alone; {agreement_text(audit)}",
        columns,
        rows,
    )


def agreement_text(audit: Audit) -> str:
    """Say how well the ranks of inherited and own weights agree."""
    if audit.kendall_tau is None or audit.spearman is None:
        return f"no rank correlation: every network has the same {audit.metric.name}"
    return f"Kendall's tau {audit.kendall_tau}, Spearman {audit.spearman} (95% by bootstrap)"


def neighbours_text(audit: Audit) -> str:
    """Say how many neighbours of the front differ by less than the noise, and how large that is."""
    found, unit = audit.neighbours, " points" if audit.metric.share else ""
    parts = []
    if found.split_deviation is not None:
        parts.append(f"{audit.metric.text(found.split_deviation)}{unit} by the choice of search images")
    if found.seed_deviation is not None:
        parts.append(f"{audit.metric.text(found.seed_deviation)}{unit} between {audit.seeds} seeds")
    if not parts:
        return f"how many neighbours on the front are inside the noise of {audit.metric.name} is not known"
    return (
        f"neighbours on the front inside the noise: {found.inside} of {found.pairs} (differing by less than "
        f"one standard deviation of a difference; that of one {audit.metric.name}: {', '.join(parts)})"
    )


def draw_audit(audit: Audit, title: str, path: Path) -> Path:
    """Draw inherited against stand-alone scores into `path`, with the range over seeds."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    blue, orange, *_, grey = COLOURS
    figure = Figure(figsize=(5.5, 5.5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    every = [value for network in audit.networks for value in (network.inherited, *network.by_seed)]
    metric, unit = audit.metric, 100 if audit.metric.share else 1
    margin = 0.005 if metric.share else 0.02 * (max(every) - min(every))
    ends = unit * np.array([min(every) - margin, max(every) + margin])
    axes.plot(ends, ends, color=grey, linewidth=1, label="equal")
    for name, colour, on_front in (("other networks", blue, False), ("members of the front", orange, True)):
        shown = [network for network in audit.networks if network.on_front == on_front]
        x = [unit * network.alone for network in shown]
        reach = np.array(
            [
                [unit * (network.alone - min(network.by_seed)) for network in shown],
                [unit * (max(network.by_seed) - network.alone) for network in shown],
            ]
        ).clip(min=0)  # a mean of equal numbers may differ from them in the last digit
        y = [unit * network.inherited for network in shown]
        axes.errorbar(x, y, xerr=reach, fmt="o", markersize=4, color=colour, label=name, elinewidth=0.8)
    axes.set(
        xlabel=f"{metric.heading} trained alone, {audit.epochs} epochs",
        ylabel=f"{metric.heading} with the supernet's weights",
        title=f"{title}\n{agreement_text(audit)}",
    )
    axes.grid(visible=True, alpha=0.25)
    axes.legend(loc="upper left")
    figure.savefig(path)
    return path
