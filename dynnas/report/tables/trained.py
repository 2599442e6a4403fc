"""Tables of trainings and compressions after the search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynnas.pareto.noise import tested
from dynnas.report.tables.table import Column, Table
from dynnas.study.records.compressed import Compressed
from dynnas.study.records.trained import Trained


def trained_table(trained: Sequence[Trained], name: str) -> Table:
    """Return one row for each training: its start, and its score before and after."""
    shown = {"%" if each.metric.share else each.metric.name for each in trained}
    unit = next(iter(shown)) if len(shown) == 1 else ""
    columns = (
        Column("training"),
        Column("from"),
        Column("teacher"),
        Column("weights"),
        Column("epochs", numeric=True),
        Column("seed", numeric=True),
        Column(f"inherited {unit}".strip(), numeric=True),
        Column(f"trained {unit}".strip(), numeric=True),
        Column(f"test {unit}".strip(), numeric=True),
    )
    rows = tuple(
        (
            each.name,
            each.start,
            each.teacher,
            each.weights,
            str(each.epochs),
            str(each.seed),
            each.metric.text(each.inherited),
            each.metric.text(each.score),
            each.metric.text(each.test_score),
        )
        for each in trained
    )
    scores = ", ".join(dict.fromkeys(each.metric.name for each in trained)) or "scores"
    title = f"{name}: trained alone; {scores}, inherited and trained on search images"
    return Table(title, columns, rows)


def compressed_table(compressed: Sequence[Compressed], name: str) -> Table:
    """Return two rows for each pass: before and after, and a row for each control."""
    metric = compressed[0].metric if compressed else None
    columns = (
        Column("pass"),
        Column("form"),
        Column(metric.heading if metric else "score", numeric=True),
        Column("test %" if metric and metric.share else "test", numeric=True),
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
                    *_scores(each, figures.scores),
                    f"{figures.bytes / 1024:.1f}",
                    f"{figures.latency_ms:.4f}",
                    f"{low:.4f} to {high:.4f}",
                    figures.file,
                )
            )
        for title, scores in each.controls.items():
            rows.append(("", title, *_scores(each, scores), "", "", "", ""))
    return Table(f"{name}: before and after, timed in the same rounds", columns, tuple(rows))


def compressed_text(compressed: Compressed) -> str:
    """Spell what a pass gained and lost, in one line."""
    before, after = compressed.before, compressed.after
    metric, name = compressed.metric, tested(compressed.metric.name)
    gain = after.scores[name] - before.scores[name]
    points = f"{round(100 * gain, 2) + 0.0:+.2f} points" if metric.share else f"{gain + 0.0:+.4g}"  # never -0
    return (
        f"{compressed.name}: test {metric.name} {points}, {before.bytes / after.bytes:.2f} times "
        f"smaller, {before.latency_ms / after.latency_ms:.2f} times as fast"
    )


def _scores(compressed: Compressed, scores: Mapping[str, float]) -> tuple[str, str]:
    """Spell the score that ranks, on the search images and on the test images."""
    metric = compressed.metric
    return metric.text(scores[metric.name]), metric.text(scores[tested(metric.name)])
