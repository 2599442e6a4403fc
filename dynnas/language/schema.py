"""JSON Schema of space files, for completion and checks in an editor; made from the parser's own tables.

Weaker than the parser where a schema cannot speak (positions that exist, knobs that never apply, whole
ranges): every file that the parser takes is valid under the schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

from dynnas.language.names import NAME, NETWORK_SECTIONS, REQUIRED_SECTIONS
from dynnas.language.parser import MAX_CHOICES
from dynnas.language.sections.exits import POSITION, POSITIONS
from dynnas.language.sections.network import INPUT, LAYERS
from dynnas.language.sections.table import DIRECTIONS, KEYS, REQUIRED
from dynnas.language.settings_reader import DEVICE, DEVICES, SECTIONS, choices_of, setting_form, settings_of
from dynnas.nn.config.vocabulary import (
    DENSE,
    EXIT_COUNT,
    MAX_EXITS,
    MAX_STAGES,
    POLICY,
    RESOLUTION_CHOICE,
    RESOLUTIONS,
    STAGE,
    exit_knobs,
    head_kind,
    head_knobs,
    layer_knobs,
    map_head_knobs,
    stem_knobs,
)
from dynnas.settings.metrics import BY_DEVICE
from dynnas.settings.settings import REFERENCE
from dynnas.space.knob import MAX_VALUES, Knob, required
from dynnas.space.rule import Rule

Schema = dict[str, Any]


def json_schema() -> Schema:
    """Return the schema of a space file (Draft 2020-12)."""
    properties = {
        "name": {
            "type": "string",
            "pattern": f"^{NAME.pattern}$",
            "description": "names the study's folder; the file's stem if not given",
        },
        "model": {
            "type": "string",
            "pattern": "^[^:]+:[^:]+$",
            "description": "a class or function of your own whose arguments are chosen, package.module:Class",
        },
        "input": _input(),
        "stem": _table("the first convolution", _knobs(stem_knobs()), required(stem_knobs())),
        "policy": _table("the network that gates may read", _knobs(POLICY)),
        "stages": _list(_stage(), MAX_STAGES, unique=False, description="stages of blocks, in order"),
        "head": _table("what the network ends in", _knobs((head_kind(), *head_knobs(), *map_head_knobs()))),
        "exits": _exits(),
        "choices": _choices(),
        "evaluator": _evaluator(),
        **{name: _settings(section) for name, section in SECTIONS.items()},
        DEVICES: {
            "type": "object",
            "description": "further targets by their names: latency_ms@NAME is the latency on one",
            "propertyNames": {"pattern": f"^{DEVICE.pattern}$"},
            "additionalProperties": _settings(SECTIONS["target"]),
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "dynnas space file",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "if": {"anyOf": [{"required": ["choices"]}, {"required": ["model"]}]},
        "then": {
            "properties": dict.fromkeys(NETWORK_SECTIONS, False),
            "if": {"required": ["model"]},
            "then": {"required": ["choices"], "properties": {"evaluator": False}},
            "else": {"properties": {"choices": {"additionalProperties": _plain_choice()}}},
        },
        "else": {"required": list(REQUIRED_SECTIONS), "properties": {"evaluator": False}},
        "allOf": [_known_metrics()],
    }


def _known_metrics() -> Schema:
    """Return the rule that metrics are known ones, unless the task is the user's, who has others."""
    own = {"type": "string", "anyOf": [{"const": "functions"}, {"pattern": f"^{REFERENCE.expression}$"}]}
    data = {"type": "object", "required": ["task"], "properties": {"task": own}}
    section = SECTIONS["search"]
    strict = {
        each.name: _setting(each, section, own_metrics=False)
        for each in fields(section)
        if "of_task" in each.metadata
    }
    return {
        "if": {"required": ["data"], "properties": {"data": data}},
        "else": {"properties": {"search": {"properties": strict}}},
    }


def _table(description: str, properties: Mapping[str, Schema], required: Sequence[str] = ()) -> Schema:
    """Return the schema of a mapping with known keys; it may be empty where no key is required."""
    return {
        "type": "object" if required else ["object", "null"],
        "description": description,
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema, most: int, unique: bool = True, **more: Any) -> Schema:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": most, "uniqueItems": unique, **more}


def _knobs(table: Sequence[Knob]) -> dict[str, Schema]:
    return {knob.name: _knob(knob) for knob in table}


def _knob(knob: Knob) -> Schema:
    """Return the schema of a knob: one value, a list, or a range."""
    value = knob.rule.schema()
    forms = [value, _list(value, MAX_VALUES)]
    if knob.ordered:
        step = Rule(knob.rule.kind, minimum=0).schema()
        ends = {"from": value, "to": value, "step": step}
        forms.append(
            {"type": "object", "properties": ends, "required": list(ends), "additionalProperties": False}
        )
    where = f"; where {knob.when}" if knob.when else ""
    schema: Schema = {"description": f"{knob.help}{where}; {knob.rule}", "anyOf": forms}
    if knob.default is not None:
        schema["default"] = knob.default
    return schema


def _input() -> Schema:
    listed = {knob.name: _knob(knob) for knob in (RESOLUTIONS, *RESOLUTION_CHOICE)}
    side = RESOLUTIONS.rule.schema()
    size = {"type": "array", "items": side, "minItems": 2, "maxItems": 2}
    listed[RESOLUTIONS.name]["anyOf"].append(_list({"anyOf": [side, size]}, MAX_VALUES))
    single = {
        knob.name: {"description": knob.help, **knob.rule.schema()}
        for knob in INPUT
        if knob.name not in listed
    }
    return _table("the images", {**listed, **single}, (RESOLUTIONS.name,))


def _stage() -> Schema:
    layers = {
        "type": "object",
        "description": "knobs of single layers (the first is 0) that differ from the stage's",
        "patternProperties": {"^[0-9]+$": _table("one layer", _knobs(layer_knobs()))},
        "additionalProperties": False,
        "minProperties": 1,
    }
    return _table(
        "one stage",
        {**_knobs(STAGE), **_knobs(layer_knobs()), **_knobs(DENSE), LAYERS: layers},
        required(STAGE),
    )


def _exits() -> Schema:
    position = {"type": "string", "pattern": f"^{POSITION.pattern}$"}
    positions = {
        "description": "after which stages (stage1) or blocks (stage2.0) an exit may stand",
        "anyOf": [position, _list(position, MAX_EXITS)],
    }
    properties = {POSITIONS: positions, EXIT_COUNT.name: _knob(EXIT_COUNT), **_knobs(exit_knobs())}
    return _table("early classifiers", properties, (POSITIONS,))


def _choices() -> Schema:
    value = {"type": ["string", "number", "boolean", "null"]}
    listed = _list({"type": ["string", "number", "boolean", "null", "array"]}, MAX_VALUES)
    values = {"anyOf": [value, listed]}
    under = {
        "type": "object",
        "properties": {
            "when": {"type": "object", "additionalProperties": values},
            "each": {"type": "string", "description": "the argument that says how many layers there are"},
            "choose": values,
        },
        "required": ["choose"],
        "minProperties": 2,
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "description": "names and the values to choose from, for arguments of `model` or a plain space",
        "additionalProperties": {"anyOf": [value, listed, under]},
        "minProperties": 1,
        "maxProperties": MAX_CHOICES,
        "propertyNames": {"minLength": 1},
    }


def _plain_choice() -> Schema:
    value = {"type": ["string", "number", "boolean"], "minLength": 1}
    return {"anyOf": [value, _list(value, MAX_VALUES)]}


def _evaluator() -> Schema:
    text = Rule(str).schema()
    texts = {"anyOf": [text, _list(text, MAX_VALUES, unique=False)]}

    def by_name(value: Schema) -> Schema:
        return {"type": "object", "additionalProperties": value, "minProperties": 1}

    forms: dict[str, Schema] = {
        "table": text,
        "genes": {"anyOf": [text, {"type": "object", "additionalProperties": text}]},
        "metrics": by_name(texts),
        "objectives": by_name({"enum": list(DIRECTIONS)}),
        "limits": by_name({"type": "number"}),
        "cheap": texts,
        "noisy": {"type": "boolean", "default": False},
    }
    properties = {key: {"description": help, **forms[key]} for key, help in KEYS.items()}
    return _table("a table of measured architectures, to be searched", properties, REQUIRED)


def _settings(section: type) -> Schema:
    properties = {setting.name: _setting(setting, section) for setting in fields(section)}
    return _table((section.__doc__ or "").partition("`: ")[2].strip("."), properties)


def _setting(setting: Field[Any], section: type, own_metrics: bool = True) -> Schema:
    """Return the schema of a setting; with `own_metrics` what names metrics may name those of any task."""
    shape, rule = setting_form(setting, section)
    value = rule.schema()
    schema: Schema = {"description": setting.metadata["help"]}
    by_device = bool(setting.metadata.get("by_device"))
    own_metrics = own_metrics and "of_task" in setting.metadata
    elsewhere = f"^({'|'.join(BY_DEVICE)})@{DEVICE.pattern}$"
    if shape == "list" and by_device:
        own: list[Schema] = [{"type": "string", "minLength": 1}] if own_metrics else []
        value = {"type": "string", "anyOf": [{"enum": list(rule.choices)}, {"pattern": elsewhere}, *own]}
        return schema | {"anyOf": [value, _list(value, MAX_VALUES)]}
    if shape == "list":
        return schema | {"anyOf": [value, _list(value, len(rule.choices))]}
    if shape == "table":
        return (
            schema
            | _table(
                setting.metadata["help"],
                {name: {"description": f"{name}, a number", **value} for name in choices_of(setting)},
            )
            | ({"patternProperties": {elsewhere: value}} if by_device else {})
            | ({"additionalProperties": value} if own_metrics else {})
        )
    if shape == "free":
        single = {"type": ["number", "string", "boolean"]}
        table = {"type": "object", "additionalProperties": single}
        either = {"anyOf": [single, _list(single, MAX_VALUES, unique=False), table]}
        return schema | {"type": "object", "additionalProperties": either}
    if shape == "tables":
        parts = setting.metadata["registry"]
        return schema | _table(setting.metadata["help"], {name: _part(parts[name]) for name in sorted(parts)})
    return schema | value | {"default": setting.default}


def _part(part: type) -> Schema:
    """Return the schema of a registered class's settings, or false."""
    help = (part.__doc__ or "").partition("\n")[0].strip(".")
    known = {name: _setting(each, part) for name, each in settings_of(part).items()}
    return {"description": help, "anyOf": [{"const": False}, _table(help, known)]}
