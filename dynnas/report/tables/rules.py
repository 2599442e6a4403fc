"""A table of the places where a network breaks the design rules of the literature."""

from __future__ import annotations

from itertools import groupby

from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.networks.design_rules import Break, breaks_of
from dynnas.report.tables.table import Column, Table

NOTE = "What each rule costs was measured: docs/guide/design-rules.md."


def rules_table(config: NetworkConfig, name: str) -> Table:
    """Return a row for each rule and each run of places that break it alike.

    Args:
        config: of the network. name: of it, for the title.
    """
    breaks = breaks_of(config)
    rows = []
    for rule in dict.fromkeys(each.rule for each in breaks):
        own = [each for each in breaks if each.rule == rule]
        for says, alike in groupby(own, key=lambda each: each.says):
            rows.append((rule, _places(list(alike)), says))
    columns = (Column("rule"), Column("where"), Column("what is there"))
    return Table(f"design rules that the {name} network breaks", columns, tuple(rows), NOTE if rows else "")


def _places(breaks: list[Break]) -> str:
    """Return `stage1.0 to stage1.2` for several places."""
    first, last = breaks[0].place, breaks[-1].place
    return first if first == last else f"{first} to {last}"
