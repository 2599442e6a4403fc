"""The optional sections of a study; the allowed values come from the dataclasses in `settings.py`."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple

from dynnas.language.problems import Problems
from dynnas.language.reading import check_distinct, read_list, read_one, read_table
from dynnas.language.tree import Listing, Node, Scalar, Table
from dynnas.metric import Metric
from dynnas.settings.metrics import device_metrics
from dynnas.settings.settings import (
    DataSettings,
    SearchSettings,
    Settings,
    TargetSettings,
    TrainSettings,
)
from dynnas.space.rule import Rule

SECTIONS: Mapping[str, type] = {
    "data": DataSettings,
    "train": TrainSettings,
    "search": SearchSettings,
    "target": TargetSettings,
}


DEVICES = "devices"
"""The section of further targets by their names."""

DEVICE = re.compile(r"[A-Za-z]\w*")


class Form(NamedTuple):
    """The form of a setting, and the rule of each value.

    A `table` maps its `choices` to numbers, `tables` map names of a registry to settings of its classes, and
    a `free` one maps any names to values, lists of them, or mappings to them.
    """

    shape: Literal["one", "list", "table", "tables", "free"]
    rule: Rule


class Named(NamedTuple):
    """The names that a file itself gives: those of further targets, and of the metrics of its task."""

    devices: tuple[str, ...] = ()
    metrics: tuple[Metric, ...] = ()


NOTHING = Named()


def choices_of(setting: Field[Any], named: Named = NOTHING) -> tuple[str, ...]:
    """Return the texts that a setting may be, or the keys of its table; none if any text will do.

    Those that are metrics may also be those that the file names.
    """
    choices = setting.metadata.get("choices", ())
    known = tuple(choices()) if callable(choices) else tuple(choices)
    ways = setting.metadata.get("of_task", ())
    own = [each.name for each in named.metrics if each.direction in ways and each.name not in known]
    return (*known, *own, *(device_metrics(named.devices) if setting.metadata.get("by_device") else ()))


def setting_form(setting: Field[Any], section: type, named: Named = NOTHING) -> Form:
    """Return the form of one field of a section's dataclass, in a file that names what is `named`."""
    hint = typing.get_type_hints(section)[setting.name]
    choices = choices_of(setting, named)
    minimum, maximum = setting.metadata.get("minimum"), setting.metadata.get("maximum")
    origin = typing.get_origin(hint)
    if origin is tuple:
        return Form("list", Rule(typing.get_args(hint)[0], minimum, maximum, choices=choices))
    if "registry" in setting.metadata:
        return Form("tables", Rule(bool))
    if setting.metadata.get("free"):
        return Form("free", Rule(str))
    if origin is Mapping:
        return Form("table", Rule(float, minimum, maximum))
    optional = origin is UnionType
    kind = next(kind for kind in typing.get_args(hint) if kind is not NoneType) if optional else hint
    pattern = setting.metadata.get("pattern")
    return Form("one", Rule(kind, minimum, maximum, choices=choices, optional=optional, pattern=pattern))


def read_data(entries: Mapping[str, Node], problems: Problems) -> DataSettings:
    """Return the settings of the section `data`, which says the task; what is not given keeps its default."""
    if "data" not in entries:
        return DataSettings()
    found: DataSettings = _read_section(entries["data"], "data", DataSettings, problems)
    return found


def read_settings(
    entries: Mapping[str, Node], problems: Problems, data: DataSettings, metrics: Sequence[Metric] = ()
) -> Settings:
    """Return the settings of the other sections beside `data`; the rest keep their defaults.

    Args:
        entries: of the file. problems: gets what is wrong.
        data: what `read_data` returned. metrics: of the task that it names.
    """
    devices = _read_devices(entries[DEVICES], problems) if DEVICES in entries else {}
    named = Named(tuple(devices), tuple(metrics))
    sections = {
        name: _read_section(entries[name], name, section, problems, named)
        for name, section in SECTIONS.items()
        if name in entries and name != "data"
    }
    return Settings(data=data, **sections, devices=devices)


def _read_section(node: Node, where: str, section: type, problems: Problems, named: Named = NOTHING) -> Any:
    known = {setting.name: setting for setting in fields(section)}
    given = read_table(node, where, tuple(known), problems)
    return section(
        **{
            key: _read_setting(each, known[key], section, f"{where}.{key}", problems, named)
            for key, each in given.items()
        }
    )


def _read_devices(node: Node, problems: Problems) -> dict[str, TargetSettings]:
    """Return the further targets by their names."""
    if not isinstance(node, Table):
        problems.add(node.mark, f"{DEVICES}: found {node}; allowed: a mapping from names to targets")
        return {}
    found = {}
    for key, each in node.entries:
        if not DEVICE.fullmatch(key.text):
            problems.add(
                key.mark,
                f"{DEVICES}: found {key} as a name; allowed: letters, digits and '_', a letter first",
            )
        found[key.text] = _read_section(each, f"{DEVICES}.{key.text}", TargetSettings, problems)
    return found


def _read_setting(
    node: Node,
    setting: Field[Any],
    section: type,
    where: str,
    problems: Problems,
    named: Named = NOTHING,
) -> Any:
    shape, rule = setting_form(setting, section, named)
    if shape == "list":
        items = read_list(node, where, str(rule), problems) if isinstance(node, Listing) else (node,)
        values = tuple(read_one(item, rule, where, problems) for item in items)
        if rule.kind is str:
            check_distinct(items, values, where, problems)
        return values
    if shape == "table":
        entries = read_table(node, where, choices_of(setting, named), problems)
        return {key: read_one(value, rule, f"{where}.{key}", problems) for key, value in entries.items()}
    if shape == "tables":
        registry = setting.metadata["registry"]
        tables = read_table(node, where, tuple(registry), problems)
        return {
            key: _read_part(value, registry[key], f"{where}.{key}", problems) for key, value in tables.items()
        }
    if shape == "free":
        return _read_free(node, where, problems)
    return read_one(node, rule, where, problems)


def _read_free(node: Node, where: str, problems: Problems) -> dict[str, Any]:
    """Return a mapping from names to values, lists of them, or mappings to them, as they are written."""
    if not isinstance(node, Table):
        problems.add(node.mark, f"{where}: found {node}; allowed: a mapping from names to values")
        return {}
    found: dict[str, Any] = {}
    for key, value in node.entries:
        items = _parts(value)
        if not all(isinstance(item, Scalar) and item.value is not None for item in items):
            problems.add(
                value.mark,
                f"{where}.{key.text}: found {value}; allowed: a value, a list of values, or a mapping from "
                "names to values",
            )
            continue
        values = [item.value for item in items if isinstance(item, Scalar)]
        if isinstance(value, Table):
            found[key.text] = {name.text: each for (name, _), each in zip(value.entries, values, strict=True)}
        else:
            found[key.text] = values if isinstance(value, Listing) else values[0]
    return found


def _parts(node: Node) -> Sequence[Node]:
    if isinstance(node, Table):
        return [each for _, each in node.entries]
    return node.items if isinstance(node, Listing) else (node,)


def settings_of(part: type) -> dict[str, Field[Any]]:
    """Return the fields of a registered class that space files can set: those with a help text."""
    return {each.name: each for each in fields(part) if "help" in each.metadata}


def _read_part(node: Node, part: type, where: str, problems: Problems) -> Any:
    """Return the settings of a registered class, or False where it is left out."""
    if isinstance(node, Scalar) and node.value is False:
        return False
    known = settings_of(part)
    given = read_table(node, where, tuple(known), problems)
    return {
        key: _read_setting(each, known[key], part, f"{where}.{key}", problems) for key, each in given.items()
    }
