"""Reads the optional sections of a study; what is allowed comes from the dataclasses in `settings.py`."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from dataclasses import Field, fields
from types import NoneType, UnionType
from typing import Any

from dynnas.space.problems import Problems
from dynnas.space.reading import complain_of_repeats, read_list, read_one, read_table
from dynnas.space.rule import Rule
from dynnas.space.settings import DataSettings, SearchSettings, Settings, TargetSettings, TrainSettings
from dynnas.space.tree import Listing, Node

SECTIONS: Mapping[str, type] = {
    "data": DataSettings,
    "train": TrainSettings,
    "search": SearchSettings,
    "target": TargetSettings,
}


def setting_form(setting: Field[Any], section: type) -> tuple[type, Rule]:
    """How a setting is written (`object` for one value, `tuple` for a list, `Mapping` for names with numbers), and the
    rule for each of its values.
    """
    hint = typing.get_type_hints(section)[setting.name]
    limits = {key: setting.metadata.get(key) for key in ("minimum", "maximum")}
    choices = setting.metadata.get("choices", ())
    origin = typing.get_origin(hint)
    if origin is UnionType:
        kind = next(kind for kind in typing.get_args(hint) if kind is not NoneType)
        return object, Rule(kind, **limits, choices=choices, optional=True)
    if origin is tuple:
        return tuple, Rule(str, choices=choices)
    if origin is not None:
        return Mapping, Rule(float, minimum=setting.metadata.get("minimum", 0))
    return object, Rule(hint, **limits, choices=choices)


def read_settings(entries: Mapping[str, Node], problems: Problems) -> Settings:
    """The settings of those sections that the file has; the rest keep their defaults."""
    sections: dict[str, Any] = {}
    for name, section in SECTIONS.items():
        if name not in entries:
            continue
        settings = {setting.name: setting for setting in fields(section)}
        given = read_table(entries[name], name, tuple(settings), problems)
        values = {
            key: _read_setting(node, settings[key], section, f"{name}.{key}", problems)
            for key, node in given.items()
        }
        sections[name] = section(**values)
    return Settings(**sections)


def _read_setting(node: Node, setting: Field[Any], section: type, where: str, problems: Problems) -> Any:
    form, rule = setting_form(setting, section)
    if form is tuple:
        items = read_list(node, where, f"{rule}", problems) if isinstance(node, Listing) else (node,)
        values = tuple(read_one(item, rule, where, problems) for item in items)
        complain_of_repeats(items, values, where, problems)
        return values
    if form is Mapping:
        entries = read_table(node, where, setting.metadata["choices"], problems)
        return {key: read_one(value, rule, f"{where}.{key}", problems) for key, value in entries.items()}
    return read_one(node, rule, where, problems)
