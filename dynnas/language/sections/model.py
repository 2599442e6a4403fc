"""The sections `model` and `choices` of a space file: a class or function, and its arguments."""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from dynnas.errors import SpaceError, nearest
from dynnas.language.problems import Problems
from dynnas.language.tree import Listing, Node, Scalar, Table
from dynnas.space.choices import each, when
from dynnas.space.gene import OF_TARGET
from dynnas.space.space import Space

FORM = "package.module:Class"
WHEN, EACH, CHOOSE = "when", "each", "choose"


def read_model(entries: Mapping[str, Node], folder: Path | None, problems: Problems) -> Space:
    """Return the space of `model` and `choices`, as `Space.of` makes it.

    Args:
        entries: of the file.
        folder: of the file, in which modules are found as well as in the working folder; None for text.

    Raises:
        SpaceFileError: a problem was found, here or before.
    """
    model = _import(entries["model"], folder, problems)
    if "choices" not in entries:
        problems.stop(entries["model"].mark, "model: 'choices' is missing: arguments and their values")
    node = entries["choices"]
    if not isinstance(node, Table) or not node.entries:
        problems.stop(
            node.mark, f"choices: found {node}; allowed: a mapping from arguments to lists of values"
        )
    choices = {key.text: _choice(value, f"choices.{key.text}", problems) for key, value in node.entries}
    problems.raise_if_any()
    assert model is not None
    try:
        return Space.of(model, choices)
    except SpaceError as error:
        problems.stop(node.mark, f"choices: {error}")


def _import(node: Node, folder: Path | None, problems: Problems) -> Callable[..., Any] | None:
    text = node.text if isinstance(node, Scalar) else ""
    module, _, name = text.partition(":")
    if not module or not name:
        problems.add(node.mark, f"model: found {node}; allowed: {FORM}")
        return None
    # For good: worker processes find modules where this one does.
    for place in (Path.cwd(), folder):
        if place is not None and str(place) not in sys.path:
            sys.path.append(str(place))
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:  # whatever somebody's module may raise
        problems.add(
            node.mark,
            f"model: {module} cannot be imported ({type(error).__name__}: {error}); allowed: {FORM}, with a "
            "module that is installed, or lies in the working folder or beside the space file",
        )
        return None
    for part in name.split("."):
        if not hasattr(found, part):
            problems.add(
                node.mark, f"model: {module} has no {name}{nearest(part, vars(found))}; allowed: {FORM}"
            )
            return None
        found = getattr(found, part)
    if not callable(found):
        problems.add(node.mark, f"model: {text} is no class or function; allowed: {FORM}")
        return None
    return found


def _choice(node: Node, where: str, problems: Problems) -> Any:
    """Return the choice for one argument, as `Space.of` takes it: values, perhaps under a condition."""
    if not isinstance(node, Table):
        return _values(node, where, problems)
    entries = {key.text: value for key, value in node.entries}
    under, layers = entries.get(WHEN), entries.get(EACH)
    right = CHOOSE in entries and len(entries) > 1 and entries.keys() <= {WHEN, EACH, CHOOSE}
    if not right or not isinstance(under, Table | None) or not isinstance(layers, Scalar | None):
        problems.add(
            node.mark,
            f"{where}: found {node}; allowed: a list of values, "
            "{when: {argument: value}, choose: [values]}, or {each: argument, choose: [values]}",
        )
        return None
    choose = _values(entries[CHOOSE], f"{where}.choose", problems)
    choose = choose if layers is None else each(layers.text, choose=choose)
    if under is None:
        return choose
    conditions = {
        key.text: _values(value, f"{where}.when.{key.text}", problems) for key, value in under.entries
    }
    return when(conditions, choose=choose)


def _values(node: Node, where: str, problems: Problems) -> Any:
    if isinstance(node, Listing):
        return [_value(item, where, problems) for item in node.items]
    return _value(node, where, problems)


def _value(node: Node, where: str, problems: Problems) -> Any:
    if isinstance(node, Listing):
        return tuple(_value(item, where, problems) for item in node.items)
    if isinstance(node, Scalar):
        value = node.value
        if not isinstance(value, float) or math.isfinite(value):
            return value
    problems.add(
        node.mark,
        f"{where}: found {node}; allowed: a finite number, text, true, false, null, or a list of these",
    )
    return None


def model_text(space: Space, path: str | None = None) -> str | None:
    """Return a space file for `space`, so that another process can read it.

    None where its class or function cannot be imported by name, or a value cannot be written.

    Args:
        space: of a class or function.
        path: `package.module:name` by which that can be imported, if it is known.
    """
    path = path or _path(space.model)
    if path is None:
        return None
    genes = [gene for gene in space.genes if not gene.name.startswith(OF_TARGET)]
    values = [value for gene in genes for value in gene.values]
    if not all(map(_is_written, values)):
        return None
    choices: dict[str, Any] = {}
    for gene in genes:
        listed = _listed(gene.values)
        condition = {name: _listed(allowed) for name, allowed in gene.condition}
        choices[gene.name] = {WHEN: condition, CHOOSE: listed} if condition else listed
    document = {"name": space.name, "model": path, "choices": choices}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _is_written(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_written, value))
    return value is None or isinstance(value, bool | int | float | str)


def _listed(values: tuple[Any, ...]) -> list[Any]:
    """Return a list, with lists in the place of tuples."""
    return [_listed(value) if isinstance(value, tuple) else value for value in values]


def _path(model: Any) -> str | None:
    module, name = getattr(model, "__module__", None), getattr(model, "__qualname__", "<")
    if module in (None, "__main__") or "<" in name:
        return None
    found = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module}:{name}" if found is model else None
