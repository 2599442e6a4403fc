"""Cascades of a study as a table, and in words."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.report.tables.table import Column, Table, count
from dynnas.study.records.cascades import PICK, Cascaded, Cascades
from dynnas.study.study import Study


def cascades_table(study: Study, cascades: Cascades) -> Table:
    """Return one row for each cascade: its networks, accuracies and times, computed and measured."""
    columns = (
        Column("pick"),
        Column("networks, with the share of the images that each answers"),
        Column("from confidence"),
        Column("accuracy %", numeric=True),
        Column("test %", numeric=True),
        Column("computed ms", numeric=True),
        Column("mean ms", numeric=True),
        Column("median", numeric=True),
        Column("p95", numeric=True),
        Column("worst", numeric=True),
        Column("mean MACs", numeric=True),
        Column("params", numeric=True),
    )
    rows = tuple(_row(number, cascade) for number, cascade in enumerate(cascades, start=1))
    return Table(f"{study.name}: {cascades_text(study, cascades)}", columns, rows)


def cascades_text(study: Study, cascades: Cascades) -> str:
    """Say how many cascades there are, what they gain, and whether they belong to today's front."""
    cost = "latency" if cascades.by == "latency_ms" else "multiply-adds"
    if not cascades:
        return f"no cascade beats the networks of the front in accuracy and {cost}"
    text = (
        f"cascades of the front: {len(cascades)}; with them its hypervolume in accuracy and {cost} grows by "
        f"{100 * cascades.gain:.1f}%"
    )
    if set(cascades.front) != {member.key for member in study.front}:
        text += "; made of an earlier front; `dynnas cascade` makes them again"
    return text


def title_of_cascade(cascade: Cascaded) -> str:
    """Return the cascade's networks and the confidences between them: `a >= 0.9, else b`."""
    confident = [
        f"{key} >= {threshold:.3g}"
        for key, threshold in zip(cascade.networks, cascade.thresholds, strict=False)
    ]
    return ", else ".join([*confident, cascade.networks[-1]])


def tip_of_cascade(number: int, cascade: Cascaded) -> list[str]:
    """Return the lines of text beside the point of a cascade."""
    metrics = cascade.metrics
    test = f" (test {100 * metrics['test_accuracy']:.2f}%)" if "test_accuracy" in metrics else ""
    timed = f", p95 {metrics['p95_ms']:.3g} ms" if cascade.measured else " (computed)"
    return [
        f"{PICK}{number}",
        f"accuracy {100 * metrics['accuracy']:.2f}%{test}",
        f"latency {metrics.get('mean_ms', metrics['latency_ms']):.3g} ms{timed}",
        *(
            f"{100 * share:.1f}% by {key}"
            for key, share in zip(cascade.networks, cascade.shares, strict=True)
        ),
    ]


def cost_of_cascade(cascade: Cascaded, cost: str) -> float | None:
    """Return the cascade's cost, a measured time if there is one; None where it is not known."""
    names = {"macs": ("expected_macs",), "latency_ms": ("mean_ms", "latency_ms")}.get(cost, (cost,))
    return next((cascade.metrics[name] for name in names if name in cascade.metrics), None)


def _row(number: int, cascade: Cascaded) -> tuple[str, ...]:
    metrics = cascade.metrics
    return (
        f"{PICK}{number}",
        ", ".join(
            f"{key} {100 * share:.1f}%" for key, share in zip(cascade.networks, cascade.shares, strict=True)
        ),
        ", ".join(f"{threshold:.3f}" for threshold in cascade.thresholds),
        f"{100 * metrics['accuracy']:.2f}",
        f"{100 * metrics['test_accuracy']:.2f}" if "test_accuracy" in metrics else "",
        *(_ms(metrics, name) for name in ("latency_ms", "mean_ms", "median_ms", "p95_ms", "worst_ms")),
        count(metrics["expected_macs"]),
        count(metrics["params"]),
    )


def _ms(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else ""
