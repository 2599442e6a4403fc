"""Networks from the shelf as a table, and what is said of them: beside a study's front, or alone."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dynnas.report.plots.axes import axes_of
from dynnas.report.tables.table import Column, Table, count
from dynnas.study.records.shelf import ShelfNetwork
from dynnas.study.study import Study

if TYPE_CHECKING:
    from dynnas.workflows.shelf.alone import Start, TimedNetwork


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
    starts = [_start(study, each) for each in study.shelf if each.name in unbeaten and each.start]
    return (
        f"Not beaten by the front: {', '.join(unbeaten)}. Take it, or begin with it: `dynnas.elastic` and "
        f"`dynnas elastic` make a space of a trained network{': ' if starts else '.'}{'; '.join(starts)}"
    )


def _start(study: Study, network: ShelfNetwork) -> str:
    """Return the command that makes a space of a trained network of the shelf."""
    weights, *options = network.start
    words = ["dynnas", "elastic", str(study.folder.path / weights), *options]
    return shlex.join([*words, "--out", f"{re.sub(r'[^A-Za-z0-9]+', '-', network.name).strip('-')}.yaml"])


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


def timed_table(networks: Sequence[TimedNetwork], device: str) -> Table:
    """Return one row for each network that was timed without a study."""
    with_starts = any(each.start for each in networks)
    columns = (
        Column("network"),
        Column("images"),
        Column("latency ms", numeric=True),
        Column("95% interval", numeric=True),
        Column("params", numeric=True),
        Column("MACs", numeric=True),
        Column("file MB", numeric=True),
        *(_START_COLUMNS if with_starts else ()),
    )
    rows = tuple(
        (
            each.name,
            "x".join(map(str, each.shape)),
            f"{each.metrics['latency_ms']:.3g}",
            f"{each.interval_ms[0]:.3g} to {each.interval_ms[1]:.3g}",
            count(each.metrics["params"]) if "params" in each.metrics else "",
            count(each.metrics["macs"]) if "macs" in each.metrics else "",
            f"{each.metrics['bytes'] / 1e6:.3g}",
            *(_start_cells(each.start) if each.start else ("", "", "") if with_starts else ()),
        )
        for each in networks
    )
    return Table(f"networks from the shelf on {device}", columns, rows, _timed_text(networks))


_START_COLUMNS = (
    Column("elastic: choices", numeric=True),
    Column("least params", numeric=True),
    Column("least ms", numeric=True),
)


def _start_cells(start: Start) -> tuple[str, str, str]:
    if start.latency_ms is None:
        return "none", "", ""
    return str(start.choices), f"{start.share:.0%}", f"{start.latency_ms:.3g}"


def _timed_text(networks: Sequence[TimedNetwork]) -> str:
    starts = [each for each in networks if each.start]
    if not starts:
        return "Weights are fresh. --elastic says of each what `dynnas elastic` would make of it."
    none = [f"{each.name}: {each.start.reason}" for each in starts if each.start and each.start.reason]
    return "\n".join(
        [
            "Weights are fresh: train a network, and `dynnas elastic WEIGHTS --model NETWORK` makes a space "
            "of it, from the smallest member to the network itself.",
            *none,
        ]
    )
