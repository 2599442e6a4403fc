"""The shelf of a study as a table, and what it says of the front."""

from __future__ import annotations

from dynnas.report.plots.axes import axes_of
from dynnas.report.tables.table import Column, Table, count
from dynnas.study.shelf import ShelfNetwork
from dynnas.study.study import Study


def shelf_table(study: Study) -> Table:
    """Return one row for each network of the shelf, and the fastest of the front that is as good."""
    score, unit, words = _score(study)
    columns = (
        Column("network"),
        Column("latency ms", numeric=True),
        Column("95% interval", numeric=True),
        Column(words, numeric=True),
        Column("on the test images", numeric=True),
        Column("epochs", numeric=True),
        Column("params", numeric=True),
        Column("MACs", numeric=True),
        Column("of the front, as good: ms", numeric=True),
    )
    rows = tuple(
        (
            each.name,
            f"{each.metrics['latency_ms']:.3g}",
            f"{each.interval_ms[0]:.3g} to {each.interval_ms[1]:.3g}",
            _number(each, score, unit),
            _number(each, f"test_{score}", unit),
            str(each.epochs) if each.epochs else "",
            count(each.metrics["params"]) if "params" in each.metrics else "",
            count(each.metrics["macs"]) if "macs" in each.metrics else "",
            _as_good(study, each, score),
        )
        for each in study.shelf
    )
    return Table(f"{study.name}: networks from the shelf", columns, rows, shelf_text(study))


def shelf_text(study: Study) -> str:
    """Say which networks of the shelf no member of the front beats, and what to do with them."""
    score, _, _ = _score(study)
    unbeaten = [
        each.name for each in study.shelf if score in each.metrics and not _beaten(study, each, score)
    ]
    trained = [each for each in study.shelf if score in each.metrics]
    if not trained:
        return "The shelf is timed only; `dynnas shelf STUDY NETWORK --epochs N` trains it as the study does."
    if not unbeaten:
        return "Every network from the shelf is beaten by one of the front, which is as good and no slower."
    return (
        f"Not beaten by the front: {', '.join(unbeaten)}. Take it, or begin with it: `dynnas.elastic` and "
        "`dynnas elastic` make a space of a trained network."
    )


def _score(study: Study) -> tuple[str, float, str]:
    axes = axes_of(study)
    return axes.gain, axes.unit, axes.gain_label


def _number(network: ShelfNetwork, name: str, unit: float) -> str:
    return f"{unit * network.metrics[name]:.2f}" if name in network.metrics else ""


def _better(study: Study, network: ShelfNetwork, score: str) -> list[float]:
    """Return the latencies of the members of the front that are as good."""
    sign = 1 if axes_of(study).gain_rises else -1
    wanted = network.metrics.get(score)
    if wanted is None:
        return []
    return [
        member.metrics["latency_ms"]
        for member in study.front
        if {score, "latency_ms"} <= member.metrics.keys() and sign * member.metrics[score] >= sign * wanted
    ]


def _beaten(study: Study, network: ShelfNetwork, score: str) -> bool:
    return any(ms <= network.metrics["latency_ms"] for ms in _better(study, network, score))


def _as_good(study: Study, network: ShelfNetwork, score: str) -> str:
    found = _better(study, network, score)
    return f"{min(found):.3g}" if found else ""
