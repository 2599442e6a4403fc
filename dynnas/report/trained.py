"""Tables of what was done to networks after the search."""

from __future__ import annotations

from collections.abc import Sequence

from dynnas.report.table import Column, Table
from dynnas.search.trained import Trained


def trained_table(trained: Sequence[Trained], name: str) -> Table:
    """One row for each training: what it started from, and what became of its accuracy."""
    columns = (
        Column("training"),
        Column("from"),
        Column("teacher"),
        Column("weights"),
        Column("epochs", numeric=True),
        Column("seed", numeric=True),
        Column("inherited %", numeric=True),
        Column("trained %", numeric=True),
        Column("test %", numeric=True),
    )
    rows = tuple(
        (
            each.name,
            each.start,
            each.teacher,
            each.weights,
            str(each.epochs),
            str(each.seed),
            f"{100 * each.inherited_accuracy:.2f}",
            f"{100 * each.accuracy:.2f}",
            f"{100 * each.test_accuracy:.2f}",
        )
        for each in trained
    )
    return Table(f"{name}: trained alone; inherited and trained are on search images", columns, rows)
