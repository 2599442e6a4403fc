"""Reading of a located tree: tables with known keys, values under a rule, and the values of a knob."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from dynnas.errors import nearest
from dynnas.language.problems import Problems
from dynnas.language.tree import Listing, Node, Scalar, Table
from dynnas.space.architecture import Value
from dynnas.space.knob import MAX_VALUES, Knob, Knobs
from dynnas.space.rule import Rule


def read_table(
    node: Node, where: str, allowed: Sequence[str], problems: Problems, required: Iterable[str] = ()
) -> dict[str, Node]:
    """Return the entries of a table whose keys are allowed; an empty value counts as an empty table."""
    if isinstance(node, Scalar) and node.value is None:
        node = Table((), node.mark)
    if not isinstance(node, Table):
        problems.add(node.mark, f"{where}: found {node}; allowed: a mapping with {', '.join(allowed)}")
        return {}
    entries: dict[str, Node] = {}
    for key, value in node.entries:
        if key.text in allowed:
            entries[key.text] = value
        else:
            problems.add(
                key.mark,
                f"{where}: unknown key {key}{nearest(key.text, allowed)}; allowed: {', '.join(allowed)}",
            )
    for name in required:
        if name not in entries:
            problems.add(node.mark, f"{where}: {name!r} is missing")
    return entries


def read_list(node: Node, where: str, items: str, problems: Problems) -> tuple[Node, ...]:
    """Return the items of a list that must not be empty; `items` says what they are."""
    if isinstance(node, Listing) and node.items:
        return node.items
    problems.add(node.mark, f"{where}: found {node}; allowed: a list of {items}")
    return ()


def read_one(node: Node, rule: Rule, where: str, problems: Problems) -> Any:
    """Return the value of a scalar under a rule, or None where it is not allowed (or null and optional)."""
    if isinstance(node, Scalar):
        if rule.optional and node.value is None:
            return None
        try:
            return rule.accept(node.value)
        except ValueError:
            pass
    hint = nearest(node.text, rule.choices) if isinstance(node, Scalar) else ""
    problems.add(node.mark, f"{where}: found {node}{hint}; allowed: {rule}")
    return None


def read_knob(node: Node, knob: Knob, where: str, problems: Problems) -> tuple[Value, ...]:
    """Return the values of a knob, smallest first, from one value, a list, or a range; none if unreadable."""
    if isinstance(node, Table) and knob.ordered:
        return _read_range(node, knob.rule, where, problems)
    if isinstance(node, Listing):
        items = read_list(node, where, f"values, each {knob.rule}", problems)
    else:
        items = (node,)
    values = [read_one(item, knob.rule, where, problems) for item in items]
    check_distinct(items, values, where, problems)
    if len(values) > MAX_VALUES:
        problems.add(node.mark, f"{where}: found {len(values)} values; allowed: at most {MAX_VALUES}")
    if None in values or len(values) > MAX_VALUES:
        return ()
    distinct = dict.fromkeys(values)
    return tuple(sorted(distinct) if knob.ordered else sorted(distinct, key=knob.rule.choices.index))


def check_distinct(
    items: Sequence[Node], values: Sequence[Value | None], where: str, problems: Problems
) -> None:
    """Check that each value of a list occurs once; None stands for one that could not be read."""
    seen: set[Value] = set()
    for item, value in zip(items, values, strict=True):
        if value is None:
            continue
        if value in seen:
            problems.add(item.mark, f"{where}: {item} is listed twice")
        seen.add(value)


def _read_range(node: Table, rule: Rule, where: str, problems: Problems) -> tuple[Value, ...]:
    entries = read_table(node, where, ("from", "to", "step"), problems, required=("from", "to", "step"))
    step_rule = Rule(rule.kind, minimum=1 if rule.kind is int else 1e-6, maximum=rule.maximum)
    start, stop = (
        read_one(entries[key], rule, f"{where}.{key}", problems) if key in entries else None
        for key in ("from", "to")
    )
    step = read_one(entries["step"], step_rule, f"{where}.step", problems) if "step" in entries else None
    if start is None or stop is None or step is None:
        return ()
    if start > stop:
        problems.add(
            entries["to"].mark, f"{where}.to: found {stop}; allowed: at least `from`, which is {start}"
        )
        return ()
    first, last, gap = (Decimal(str(number)) for number in (start, stop, step))  # 0.1 + 0.2 must be 0.3
    number = int((last - first) / gap) + 1
    if number > MAX_VALUES:
        problems.add(node.mark, f"{where}: the range has {number} values; allowed: at most {MAX_VALUES}")
        return ()
    values = tuple(rule.kind(first + index * gap) for index in range(number))
    try:
        return tuple(rule.accept(value) for value in values)
    except ValueError as error:
        problems.add(node.mark, f"{where}: the range contains {error}; allowed: {rule}")
        return ()


def read_knobs(entries: Mapping[str, Node], table: Iterable[Knob], where: str, problems: Problems) -> Knobs:
    """Return the knobs of a section that the file gives."""
    return {
        knob.name: read_knob(entries[knob.name], knob, f"{where}.{knob.name}", problems)
        for knob in table
        if knob.name in entries
    }


def with_defaults(given: Knobs, table: Iterable[Knob]) -> Knobs:
    """Return every knob of a section with its default.

    A required one that is missing counts as unreadable.
    """
    return {**{knob.name: () if knob.default is None else (knob.default,) for knob in table}, **given}


def check_used(
    entries: Mapping[str, Node], table: Iterable[Knob], users: Sequence[Knobs], where: str, problems: Problems
) -> None:
    """Check that a given knob applies to one of its `users`: one that can never apply is a mistake."""
    for knob in table:
        if knob.name in entries and users and not any(_can_apply(knob, user) for user in users):
            problems.add(
                entries[knob.name].mark, f"{where}.{knob.name}: never used; it applies only where {knob.when}"
            )


def _can_apply(knob: Knob, siblings: Knobs) -> bool:
    """Return whether a sibling's values let the knob apply.

    An unreadable sibling gets the benefit of the doubt.
    """
    values = siblings[knob.when.knob] if knob.when else ()
    return knob.when is None or not values or any(map(knob.when.holds_for, values))
