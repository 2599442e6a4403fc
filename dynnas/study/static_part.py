"""The static part of a space, and which of its networks are dynamic."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

from dynnas.errors import SpaceError
from dynnas.nn.config.names import CHOOSE, EXITS_AT, FIXED, NO_EXITS
from dynnas.space.architecture import Architecture, Value
from dynnas.space.choices import argument_of, arguments_of, name_of, static_values_of
from dynnas.space.gene import Gene, of_network
from dynnas.space.moves import choose_each, largest, sample
from dynnas.space.space import Space

TRIES = 16
"""Networks of a class that are drawn to see that none of them is dynamic."""


def static_part(space: Space) -> Space | None:
    """Return `space` without dynamic kernels, gates, exits and choice of resolutions, which may be all of it.

    None if it has no such networks. Of a class of one's own it has the values that the class states as its
    `static_values`, or else those by which no network does another thing for another image; it is None if
    nothing is dynamic.
    """
    if space.model is not None and (stated := static_values_of(space.model)) is not None:
        arguments = {argument_of(gene.name) for gene in space.genes}
        return _restricted(space, {name: (value,) for name, value in stated.items() if name in arguments})
    if space.network is None and getattr(space.model, "template", None) is None:
        kept = _static_values(space.model, space.genes) if space.model is not None else None
        part = _restricted(space, kept or {})
        return None if part is None or part.digest == space.digest else part
    values: dict[str, Sequence[Value]] = {"op": ("static",)}
    if any(gene.name.endswith(".gate") for gene in space.genes):
        values["gate"] = ("none",)
    names = {gene.name for gene in space.genes}
    values |= {name: (none,) for name, none in ((EXITS_AT, NO_EXITS), (CHOOSE, FIXED)) if name in names}
    return _restricted(space, values)


def _restricted(space: Space, values: Mapping[str, Sequence[Value]]) -> Space | None:
    try:
        return space.restrict(values) if values else None
    except SpaceError:  # some layer has no static op or always a gate, or some exit is always there
        return None


@lru_cache(maxsize=4096)
def _dynamic_layers(model: Callable[..., Any], architecture: Architecture) -> int:
    """Return how many layers of a network of one's own class do another thing for another image.

    It is 0 for a network that cannot be built.
    """
    from dynnas.nn.per_image import layers_per_image as count  # torch: only networks of a class need it

    try:
        return count(model(**arguments_of(of_network(architecture))))
    except Exception:  # the search says it
        return 0


def is_static(space: Space, architecture: Architecture) -> bool:
    """Tell whether a network of a class of one's own does the same with every image."""
    assert space.model is not None
    if (stated := static_values_of(space.model)) is not None:
        if not stated:  # no choice makes a difference
            return not _dynamic_layers(space.model, largest(space))
        return all(stated.get(argument_of(name), value) == value for name, value in architecture.items())
    kept = _static_values(space.model, space.genes)
    if kept is None:
        return not _dynamic_layers(space.model, architecture)
    return all(value in kept.get(name, ()) for name, value in architecture.items())


@lru_cache(maxsize=8)
def _static_values(model: Callable[..., Any], genes: tuple[Gene, ...]) -> dict[str, list[Value]] | None:
    """Return for each choice of a class the values that static networks have; None where there are none.

    From a static network each choice is changed alone. Whether the values that stay give static networks
    together is seen by drawing some.
    """
    space = Space(name_of(model), genes, model=model)
    static = _calmed(space, largest(space), {gene.name for gene in genes})
    if _dynamic_layers(model, static):
        return None
    kept: dict[str, list[Value]] = {}
    bases = [static]
    while bases:
        base = bases.pop()
        for gene in genes:
            if gene.name in kept or gene.name not in base:
                continue
            kept[gene.name] = []
            for value in gene.values:
                changed = _changed(space, base, {gene.name: value})
                changed = _calmed(space, changed, changed.keys() - base.keys())
                if not _dynamic_layers(model, changed):
                    kept[gene.name].append(value)
                    bases += [changed] if changed.keys() - kept.keys() else []
    part, drawn = space.restrict(kept), random.Random(0)
    if any(_dynamic_layers(model, sample(part, drawn)) for _ in range(TRIES)):
        return None
    return kept


def _changed(space: Space, base: Mapping[str, Value], values: Mapping[str, Value]) -> Architecture:
    """Return an architecture with other values; what becomes active has its first one."""
    return choose_each(space, lambda gene: values.get(gene.name, base.get(gene.name, gene.values[0])))


def _calmed(space: Space, base: Architecture, free: Collection[str]) -> Architecture:
    """Return an architecture after its free choices, one by one, took the values of fewest dynamic layers.

    What depends on other choices is chosen before them: the kernel of a layer, and not whether it is there.
    """
    count = partial(_dynamic_layers, space.model)
    for gene in sorted(space.genes, key=lambda gene: -len(gene.condition)):
        if gene.name in free and gene.name in base and count(base):
            others = (_changed(space, base, {gene.name: value}) for value in gene.values)
            base = min((base, *others), key=count)  # of equals the first
    return base
