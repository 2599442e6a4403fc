"""Cascades of a study as a table, and in words."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.report.tables.table import Column, Table, count
from dynnas.settings.metrics import find_metric
from dynnas.study.records.cascades import PICK, Cascaded, Cascades
from dynnas.study.study import Study


def cascades_table(study: Study, cascades: Cascades) -> Table:
    """Return one row for each cascade: its networks, scores and times, computed and measured."""
    percent = " %" if _is_share(cascades.score) else ""
    columns = (
        Column("pick"),
        Column("networks, with the share of the images that each answers"),
        Column("from confidence"),
        Column(f"{_words(cascades.score)}{percent}", numeric=True),
        Column(f"test{percent}", numeric=True),
        Column("computed ms", numeric=True),
        Column("mean ms", numeric=True),
        Column("median", numeric=True),
        Column("p95", numeric=True),
        Column("worst", numeric=True),
        Column("mean MACs", numeric=True),
        Column("params", numeric=True),
    )
    rows = tuple(_row(number, cascade, cascades.score) for number, cascade in enumerate(cascades, start=1))
    return Table(f"{study.name}: {cascades_text(study, cascades)}", columns, rows)


def cascades_text(study: Study, cascades: Cascades) -> str:
    """Say how many cascades there are, what they gain, and whether they belong to today's front."""
    cost = "latency" if cascades.by == "latency_ms" else "multiply-adds"
    score = _words(cascades.score)
    if not cascades:
        return f"no cascade beats the networks of the front in {score} and {cost}"
    text = (
        f"cascades of the front: {len(cascades)}; with them its hypervolume in {score} and {cost} grows by "
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


def tip_of_cascade(number: int, cascade: Cascaded, score: str) -> list[str]:
    """Return the lines of text beside the point of a cascade."""
    metrics = cascade.metrics
    sign, tested = "%" if _is_share(score) else "", _figure(metrics, f"test_{score}", score)
    test = f" (test {tested}{sign})" if tested else ""
    timed = f", p95 {metrics['p95_ms']:.3g} ms" if cascade.measured else " (computed)"
    return [
        f"{PICK}{number}",
        f"{_words(score)} {_figure(metrics, score, score)}{sign}{test}",
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


def _row(number: int, cascade: Cascaded, score: str) -> tuple[str, ...]:
    metrics = cascade.metrics
    return (
        f"{PICK}{number}",
        ", ".join(
            f"{key} {100 * share:.1f}%" for key, share in zip(cascade.networks, cascade.shares, strict=True)
        ),
        ", ".join(f"{threshold:.3f}" for threshold in cascade.thresholds),
        _figure(metrics, score, score),
        _figure(metrics, f"test_{score}", score),
        *(_ms(metrics, name) for name in ("latency_ms", "mean_ms", "median_ms", "p95_ms", "worst_ms")),
        count(metrics["expected_macs"]),
        count(metrics["params"]),
    )


def _is_share(score: str) -> bool:
    """Return whether a score is told in percent."""
    metric = find_metric(score)
    return metric is not None and metric.share


def _words(score: str) -> str:
    """Return the name of a score in words."""
    return score.replace("_", " ")


def _figure(metrics: Mapping[str, float], name: str, score: str) -> str:
    """Return a value of a score, in percent if it is told so; nothing where there is none."""
    if name not in metrics:
        return ""
    return f"{100 * metrics[name]:.2f}" if _is_share(score) else f"{metrics[name]:.4g}"


def _ms(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.4f}" if name in metrics else ""
