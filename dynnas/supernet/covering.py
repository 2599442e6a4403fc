"""The architectures that a supernet is made for, so that all others fit into its tensors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator

from torch import nn

from dynnas.nn.slicing import layouts
from dynnas.space.architecture import Architecture
from dynnas.space.moves import enumerate_all, largest, sample, smallest
from dynnas.space.space import Space
from dynnas.supernet.blank import blank
from dynnas.supernet.shared import Rooms

LOOKED_AT = 256
"""Number of architectures that are built without values to find the covering ones; a smaller space is looked
at whole.
"""


def covering(
    space: Space, build: Callable[[Architecture], nn.Module], more: Iterable[Architecture] = ()
) -> list[Architecture]:
    """Find architectures that together need every shared tensor at its largest, the largest first.

    A space of up to `LOOKED_AT` architectures is looked at whole. Of a larger one these are looked at: the
    largest, the smallest, each value of every choice with the rest at its largest, and draws. Networks are
    built without values.

    Args:
        space: what may be chosen.
        build: makes the network of an architecture.
        more: architectures that must fit as well.

    Raises:
        SpaceError: no rule says how a tensor of several shapes is shared.
    """
    rooms = Rooms()
    found = []
    for architecture in dict.fromkeys((*_candidates(space), *more)):
        module = blank(lambda: build(architecture))  # noqa: B023
        grown = [rooms.add(name.replace(".", "/"), layout) for name, layout in layouts(module).items()]
        if any(grown):
            found.append(architecture)
    return found


def _candidates(space: Space) -> Iterator[Architecture]:
    most = largest(space)
    yield most
    if space.size <= LOOKED_AT:
        yield from enumerate_all(space)
        return
    yield smallest(space)
    seen = 2
    rng = random.Random(0)
    for gene in space.choices:
        for value in gene.values:
            seen += 1
            yield _with(space, {**most, **_parents(space, gene.name), gene.name: value})
    for number in range(max(LOOKED_AT - seen, LOOKED_AT // 4)):
        drawn = sample(space, rng)
        if number % 2:  # names as drawn, numbers at their largest
            names = {
                gene.name: drawn[gene.name]
                for gene in space.choices
                if gene.name in drawn and not gene.ordered
            }
            drawn = _with(space, {**most, **names})
        yield drawn


def _parents(space: Space, name: str) -> dict[str, object]:
    """Return values of other genes under which a gene is active."""
    values: dict[str, object] = {}
    for parent, allowed in space.gene(name).condition:
        values |= {**_parents(space, parent), parent: allowed[-1]}
    return values


def _with(space: Space, values: dict[str, object]) -> Architecture:
    """Return the architecture of these values, with everything that becomes active at its largest."""
    largest_values = {gene.name: gene.values[-1] for gene in space.genes}
    return space.architecture({**largest_values, **values})
