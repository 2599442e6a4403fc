"""Tables of trainings and compressions after the search."""

from __future__ import annotations

from collections.abc import Sequence

from dynnas.report.tables.table import Column, Table
from dynnas.study.compressed import Compressed
from dynnas.study.trained import Trained


def trained_table(trained: Sequence[Trained], name: str) -> Table:
    """Return one row for each training: its start, and its accuracy before and after."""
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


def compressed_table(compressed: Sequence[Compressed], name: str) -> Table:
    """Return two rows for each pass: before and after, and a row for each control."""
    columns = (
        Column("pass"),
        Column("form"),
        Column("accuracy %", numeric=True),
        Column("test %", numeric=True),
        Column("KiB", numeric=True),
        Column("mean ms", numeric=True),
        Column("95% interval"),
        Column("file"),
    )
    rows: list[tuple[str, ...]] = []
    for each in compressed:
        for form, figures in (("float32", each.before), (each.method, each.after)):
            low, high = figures.interval_ms
            rows.append(
                (
                    each.name if form == "float32" else "",
                    form,
                    f"{100 * figures.accuracy:.2f}",
                    f"{100 * figures.test_accuracy:.2f}",
                    f"{figures.bytes / 1024:.1f}",
                    f"{figures.latency_ms:.4f}",
                    f"{low:.4f} to {high:.4f}",
                    figures.file,
                )
            )
        for title, scores in each.controls.items():
            accuracies = (f"{100 * scores[key]:.2f}" for key in ("accuracy", "test_accuracy"))
            rows.append(("", title, *accuracies, "", "", "", ""))
    return Table(f"{name}: before and after, timed in the same rounds", columns, tuple(rows))


def compressed_text(compressed: Compressed) -> str:
    """Spell what a pass gained and lost, in one line."""
    before, after = compressed.before, compressed.after
    points = round(100 * (after.test_accuracy - before.test_accuracy), 2) + 0.0  # never -0.00
    return (
        f"{compressed.name}: test accuracy {points:+.2f} points, {before.bytes / after.bytes:.2f} times "
        f"smaller, {before.latency_ms / after.latency_ms:.2f} times as fast"
    )
