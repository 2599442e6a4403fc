"""The table of this study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the figures in Markdown, in the mean over seeds, times as shares of the trained network's."""
    heads = ("network", "method", "which", "test accuracy [%]", "beside trained", "ms", "time", "MMACs")
    heads = (*heads, "processor time [s]")
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---' for _ in heads)} |"]
    whole = {(row["network"], row["seed"]): row for row in rows if row["method"] == "trained"}
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["network"], row["method"], row["which"]), []).append(row)
    for (network, method, which), found in groups.items():
        trained = [whole[row["network"], row["seed"]] for row in found]
        pairs = list(zip(found, trained, strict=True))
        gains = [100 * (row["test_accuracy"] - own["test_accuracy"]) for row, own in pairs]
        scores = ", ".join(f"{100 * row['test_accuracy']:.1f}" for row in found)
        cells = [
            network,
            method,
            which,
            scores,
            ", ".join(f"{gain:+.1f}" for gain in gains),
            f"{mean(row['ms'] for row in found):.3f}",
            f"{mean(row['ms'] / own['ms'] for row, own in pairs):.0%}",
            f"{mean(row['macs'] for row in found) / 1e6:.1f}",
            f"{mean(row['seconds'] for row in found):.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
