"""The report as Markdown: for a terminal, a README, a pull request."""

from __future__ import annotations

from dynnas.pareto.importance import Importances
from dynnas.report.conclusions import conclusions
from dynnas.report.prediction import prediction_table
from dynnas.report.study import comparison_table, study_table, title_of
from dynnas.report.summary import StudySummary
from dynnas.report.tables.cascades import cascades_table
from dynnas.report.tables.shelf import shelf_table
from dynnas.report.tables.table import Column, Table
from dynnas.report.tables.trained import compressed_table, trained_table
from dynnas.report.verdict import verdict

_GENES = 8


def markdown(summary: StudySummary, command: str) -> str:
    """Return the report as sentences and tables; pictures are left to the page.

    Args:
        summary: of a study.
        command: that makes the study again.
    """
    study = summary.study
    parts = [f"# {title_of(study)}", *filter(None, [verdict(study)]), " ".join(conclusions(study))]
    if study.front:
        parts += ["## Front", _table(study_table(study))]
    if cascades := study.cascades:
        parts += ["## Cascades", _table(cascades_table(study, cascades))]
    if study.controls.groups:
        parts += ["## Compared with", _table(comparison_table(study))]
    if study.shelf:
        parts += ["## From the shelf", _table(shelf_table(study))]
    for key, exits in summary.exit_images.items():
        shares = ", ".join(f"{100 * exit.share:.1f}% at {exit.name}" for exit in exits)
        parts.append(f"Images leave `{key}`: {shares}.")
    if curve := study.growth.trials:
        reference = ", ".join(f"{name} {value:.4g}" for name, value in study.growth.reference.items())
        parts.append(
            f"Hypervolume of the front: {study.growth.volumes[-1]:.5g}, last grown by trial {curve[-1]} "
            f"(reference: {reference})."
        )
    if summary.importances:
        parts += ["## Which choices matter", *(_table(_importance(found)) for found in summary.importances)]
    if predictions := None if study.space.table else prediction_table(study):
        parts += ["## Predicted and measured latencies", _table(predictions)]
    if audit := summary.audit:
        tau = audit["kendall_tau"]
        parts += [
            "## Supernet against stand-alone",
            f"{len(audit['networks'])} networks trained alone for {audit['epochs']} epochs: "
            + (
                f"Kendall's tau {tau['value']:.2f} (95%: {tau['low']:.2f} to {tau['high']:.2f})."
                if tau
                else "no rank correlation, for every network has the same score."
            ),
        ]
    if summary.trained:
        parts += ["## Trained after the search", _table(trained_table(summary.trained, study.name))]
    if summary.compressed:
        parts += ["## Compressed", _table(compressed_table(summary.compressed, study.name))]
    parts += ["## Again", f"```bash\n{command}\n```"]
    if summary.environment:
        parts.append("; ".join(f"{name}: {value}" for name, value in summary.environment.items()))
    return "\n\n".join(parts) + "\n"


def _importance(found: Importances) -> Table:
    columns = (
        Column(found.metric),
        Column("lost when shuffled %", numeric=True),
        Column("in networks %", True),
    )
    rows = tuple(
        (gene.gene, f"{100 * gene.loss:.1f}", f"{100 * gene.active:.0f}")
        for gene in found.genes[:_GENES]
        if gene.loss > 0
    )
    return Table(found.metric, columns, rows)


def _table(table: Table) -> str:
    """Return a table whose columns are padded, so that it also reads well as text."""
    cells = [[column.name for column in table.columns], *map(list, table.rows)]
    cells = [[cell.replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(table.columns))]
    rules = [
        "-" * (width - 1) + ":" if column.numeric else "-" * width
        for width, column in zip(widths, table.columns, strict=True)
    ]

    def line(row: list[str]) -> str:
        padded = (
            cell.rjust(width) if column.numeric else cell.ljust(width)
            for cell, width, column in zip(row, widths, table.columns, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    note = ["", table.note] if table.note else []
    return "\n".join([line(cells[0]), line(rules), *map(line, cells[1:]), *note])
