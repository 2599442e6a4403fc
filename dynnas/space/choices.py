"""The genes of a function's arguments: how `Space.of` reads what may be chosen for each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from dynnas.errors import SpaceError, nearest
from dynnas.space.architecture import Value, as_value
from dynnas.space.gene import Condition, Gene


@dataclass(frozen=True)
class When:
    """The choices of an argument that apply only while others have certain values."""

    conditions: Mapping[str, Any]
    choose: Any


@dataclass(frozen=True)
class Each:
    """The choices of an argument that has a value for each of several layers."""

    count: str
    choose: Any


def when(conditions: Mapping[str, Any] | None = None, /, *, choose: Any, **others: Any) -> When:
    """Make choices of an argument that apply only while other arguments have certain values.

    `when(op="condconv", choose=[2, 4])`; a list allows several values: `when(op=["condconv", "dyconv"],
    choose=4)`. Where it does not hold, the argument is not given, so its default applies.

    Args:
        conditions: values by argument, for arguments that are called `choose`.
        choose: a list of values, or one.
        others: values by argument.

    Raises:
        SpaceError: there is no condition.
    """
    together = {**(conditions or {}), **others}
    if not together:
        raise SpaceError('when: there is no condition; write for example when(op="condconv", choose=[2, 4])')
    return When(together, choose)


def each(count: str, /, *, choose: Any) -> Each:
    """Make a choice for each layer: the argument is a tuple of as many values as another argument says.

    `Space.of(MyNet, depth=[2, 3, 4], kernel=each("depth", choose=[3, 5]))` calls `MyNet(depth=3,
    kernel=(3, 5, 3))`. The choices are genes of their own, `kernel[0]`, `kernel[1]` and so on, and that of a
    layer exists only where there is the layer.

    Args:
        count: the argument that says how many layers there are: whole numbers, chosen or given.
        choose: a list of values, or one.
    """
    return Each(count, choose)


def genes_of(build: Callable[..., Any], choices: Mapping[str, Any]) -> tuple[Gene, ...]:
    """Return the genes of `choices`, parents before children.

    Raises:
        SpaceError: a choice that is no argument of `build`, an argument without default that has no choice, a
        value that cannot be chosen, or a condition on what is not chosen.
    """
    name = name_of(build)
    _check_arguments(name, build, choices)
    genes: dict[str, Gene] = {}
    conditions: dict[str, Mapping[str, Any]] = {}
    for argument, choice in choices.items():
        choose = choice.choose if isinstance(choice, When) else choice
        under = choice.conditions if isinstance(choice, When) else {}
        layers = _layers(name, argument, choose, choices) if isinstance(choose, Each) else {argument: {}}
        for own, there in layers.items():
            values = choose.choose if isinstance(choose, Each) else choose
            genes[own] = _gene(f"{name}: {argument}", own, values)
            conditions[own] = {**under, **there}
    ordered: dict[str, Gene] = {}
    for argument in genes:
        _place(name, argument, genes, conditions, ordered, ())
    return tuple(ordered.values())


def name_of(build: Callable[..., Any]) -> str:
    """Return the name of a class or function."""
    if isinstance(build, partial):
        return name_of(build.func)
    return str(getattr(build, "__name__", type(build).__name__))


def identity_of(build: Callable[..., Any]) -> str:
    """Return what identifies a function: module, name, and the arguments that are fixed."""
    if isinstance(identity := getattr(build, "identity", None), str):
        return identity
    if isinstance(build, partial):
        return f"{identity_of(build.func)}{build.args}{sorted(build.keywords.items())}"
    own = build if hasattr(build, "__qualname__") else type(build)
    return f"{own.__module__}:{own.__qualname__}"


def static_values_of(build: Callable[..., Any]) -> Mapping[str, Value] | None:
    """Return, by argument, the value with which nothing depends on the input, where `build` states it.

    It is empty where an argument that is fixed has another value.
    """
    given: dict[str, Any] = {}
    while isinstance(build, partial):
        given, build = {**build.keywords, **given}, build.func
    stated: Mapping[str, Value] | None = getattr(build, "static_values", None)
    if stated is None:
        return None
    return stated if all(given.get(name, value) == value for name, value in stated.items()) else {}


def arguments_of(architecture: Mapping[str, Value]) -> dict[str, Any]:
    """Return the arguments of an architecture: the values of `each` layer as one tuple."""
    arguments: dict[str, Any] = {}
    for name, value in architecture.items():
        argument = argument_of(name)
        arguments[argument] = value if argument == name else (*arguments.get(argument, ()), value)
    return arguments


def argument_of(name: str) -> str:
    """Return the argument that a gene belongs to: `kernel` for `kernel[0]`, which is that of a layer."""
    argument, opened, _ = name.partition("[")
    return argument if opened and name.endswith("]") else name


def _layers(
    name: str, argument: str, each: Each, choices: Mapping[str, Any]
) -> dict[str, dict[str, list[int]]]:
    """Return the genes of an argument with a value for each layer, with the condition of each of them."""
    counts = choices.get(each.count)
    counts = counts.choose if isinstance(counts, When) else counts
    listed: list[Any] = list(counts) if isinstance(counts, list | range) else [counts]
    if not all(isinstance(count, int) and not isinstance(count, bool) and count > 0 for count in listed):
        raise SpaceError(
            f"{name}: {argument} has a value for each of {each.count!r}, which is {listed}; allowed: an "
            "argument of whole numbers above 0, as depth=[2, 3, 4]"
        )
    return {
        f"{argument}[{layer}]": {each.count: [count for count in listed if count > layer]}
        for layer in range(max(listed))
    }


def _check_arguments(name: str, build: Callable[..., Any], choices: Mapping[str, Any]) -> None:
    if hasattr(build, "state_dict") and not isinstance(build, type):
        raise SpaceError(
            f"Space.of: found a {name} that is made already; give its class and lists of its arguments' "
            f"values: Space.of({name}, ...); a network that is trained becomes a space by dynnas.elastic"
        )
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):  # some callables do not tell
        return
    named = {
        each.name: each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters)
    given = {argument_of(name): choice for name, choice in choices.items()}
    for argument in given:
        if argument not in named and not takes_any:
            raise SpaceError(
                f"{name} has no argument {argument!r}{nearest(argument, named)}; "
                f"it has {', '.join(named) or 'none'}"
            )
    for argument in static_values_of(build) or ():
        if argument not in named and not takes_any:
            raise SpaceError(
                f"{name}.static_values has {argument!r}{nearest(argument, named)}, which is no argument; "
                f"allowed: {', '.join(named) or 'none'}"
            )
    for argument, parameter in named.items():
        needed = parameter.default is parameter.empty
        conditional = isinstance(given.get(argument), When) and argument in choices
        if needed and (argument not in given or conditional):
            raise SpaceError(
                f"{name}: {argument!r} has no default, so each network needs a value: give a list to choose "
                f"from ({argument}=[...]) or one value ({argument}=...)"
            )


def _gene(where: str, argument: str, choose: Any) -> Gene:
    several = isinstance(choose, list | range) or getattr(choose, "ndim", 0) > 0  # or an array
    listed = list(choose) if several else [choose]
    if not listed:
        raise SpaceError(f"{where}: the list of choices is empty; give at least one value")
    values: list[Value] = []
    for value in listed:
        try:
            values.append(as_value(value))
        except SpaceError as error:
            raise SpaceError(f"{where}: {error}") from error
    if len(set(values)) < len(values):
        raise SpaceError(
            f"{where}: {', '.join(map(repr, values))} are not all different (1 and True are equal)"
        )
    ordered = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    if ordered:
        values.sort()
    return Gene(argument, tuple(values), ordered=ordered and len(values) > 1)


def _place(
    name: str,
    argument: str,
    genes: Mapping[str, Gene],
    conditions: Mapping[str, Mapping[str, Any]],
    ordered: dict[str, Gene],
    waiting: tuple[str, ...],
) -> None:
    """Put a gene after those that its condition reads."""
    if argument in ordered:
        return
    if argument in waiting:
        raise SpaceError(f"{name}: the conditions of {' and '.join(waiting)} depend on each other; drop one")
    condition: Condition = ()
    for parent, allowed in conditions[argument].items():
        if parent not in genes:
            raise SpaceError(
                f"{name}: {argument} depends on {parent!r}, which is not chosen{nearest(parent, genes)}; "
                f"chosen are {', '.join(genes)}"
            )
        _place(name, parent, genes, conditions, ordered, (*waiting, argument))
        found = []
        for value in allowed if isinstance(allowed, list | range) else [allowed]:
            own = genes[parent].find(value)
            if own is None:
                raise SpaceError(
                    f"{name}: {argument} depends on {parent}={value!r}, which is no choice of it; "
                    f"allowed: {', '.join(map(repr, genes[parent].values))}"
                )
            found.append(genes[parent].values[own])
        condition = (*condition, (parent, tuple(found)))
    own_gene = genes[argument]
    ordered[argument] = Gene(argument, own_gene.values, condition, own_gene.ordered)
