"""The section `evaluator`: a table of measured architectures, which is searched instead of a supernet."""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.language.problems import Problems
from dynnas.language.reading import read_list, read_one, read_table
from dynnas.language.tree import Listing, Node, Scalar, Table
from dynnas.settings.table import TableSettings
from dynnas.space.rule import Rule

KEYS: Mapping[str, str] = {
    "table": "a .npz, .csv, .tsv or .parquet file, from the folder of the space file, or else in "
    "$DYNNAS_DATA",
    "genes": "an array of the .npz with a row for each architecture: for each choice, in order, the place of "
    "its value, from 0; or for single choices the columns that hold their values, where these have "
    "other names",
    "metrics": "columns by metric, where these have other names; several, or a matrix, are averaged",
    "objectives": "maximize or minimize, by metric",
    "limits": "upper limits, by metric",
    "cheap": "metrics that the sampler may look up before it chooses",
    "noisy": "an evaluation draws one of the averaged values, as a single measurement would",
}
REQUIRED = ("table", "objectives")
DIRECTIONS = ("maximize", "minimize")

_TEXT, _NUMBER = Rule(str), Rule(float)


def read_table_section(node: Node, choices: tuple[str, ...], problems: Problems) -> TableSettings:
    """Return the section of a space of `choices`; an unreadable value is a problem."""
    entries = read_table(node, "evaluator", tuple(KEYS), problems, REQUIRED)

    def one(key: str, rule: Rule, default: object) -> object:
        return read_one(entries[key], rule, f"evaluator.{key}", problems) if key in entries else default

    genes: str | Mapping[str, str] = {}
    if isinstance(entries.get("genes"), Scalar):
        genes = str(one("genes", _TEXT, ""))
    elif "genes" in entries:
        columns = read_table(entries["genes"], "evaluator.genes", choices, problems)
        genes = {
            name: read_one(column, _TEXT, f"evaluator.genes.{name}", problems)
            for name, column in columns.items()
        }
    return TableSettings(
        table=str(one("table", _TEXT, "")),
        genes=genes,
        metrics={
            name: _texts(columns, f"evaluator.metrics.{name}", problems)
            for name, columns in _named(entries, "metrics", problems).items()
        },
        objectives={
            name: read_one(way, Rule(str, choices=DIRECTIONS), f"evaluator.objectives.{name}", problems)
            for name, way in _named(entries, "objectives", problems).items()
        },
        limits={
            name: read_one(limit, _NUMBER, f"evaluator.limits.{name}", problems)
            for name, limit in _named(entries, "limits", problems).items()
        },
        cheap=_texts(entries["cheap"], "evaluator.cheap", problems) if "cheap" in entries else (),
        noisy=bool(one("noisy", Rule(bool), False)),
    )


def _named(entries: Mapping[str, Node], key: str, problems: Problems) -> dict[str, Node]:
    """Return the entries of a table whose keys are names of metrics."""
    if key not in entries:
        return {}
    node = entries[key]
    if not isinstance(node, Table) or not node.entries:
        problems.add(node.mark, f"evaluator.{key}: found {node}; allowed: a mapping from metrics")
        return {}
    return {name.text: value for name, value in node.entries}


def _texts(node: Node, where: str, problems: Problems) -> tuple[str, ...]:
    items = read_list(node, where, "names", problems) if isinstance(node, Listing) else (node,)
    return tuple(text for item in items if (text := read_one(item, _TEXT, where, problems)) is not None)
