"""The results of `dynnas tune` as a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from dynnas.latency.tuning.tuning import Tuned
from dynnas.report.tables.table import Column, Table


def tuning_table(found: Sequence[Tuned], path: Path) -> Table:
    """Return one row for each convolution: the way that won, its time, and its speed-up over the rule's."""
    columns = (
        Column("convolution"),
        Column("way"),
        Column("ms", numeric=True),
        Column("rule"),
        Column("ms", numeric=True),
        Column("times as fast", numeric=True),
    )
    rows = tuple(
        (
            tuned.problem.key,
            tuned.measured.way,
            f"{tuned.measured.ms[tuned.measured.way]:.3g}",
            tuned.rule,
            f"{tuned.measured.ms[tuned.rule]:.3g}",
            f"{tuned.gain:.2f}",
        )
        for tuned in found
    )
    return Table(_title(found, path), columns, rows)


def _title(found: Sequence[Tuned], path: Path) -> str:
    if not found:
        return "no convolution was measured"
    changed = sum(tuned.measured.way != tuned.rule for tuned in found)
    mean = statistics.geometric_mean(tuned.gain for tuned in found)
    return (
        f"convolutions measured: {len(found)}, run another way than by the rule: {changed}, on the whole "
        f"{mean:.2f} times as fast; written to {path}"
    )
