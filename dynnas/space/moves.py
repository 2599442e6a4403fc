"""Pure functions that draw and vary architectures; the random generator is always an argument."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping

from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.space import Space


def choose_each(space: Space, choose: Callable[[Gene], Value]) -> Architecture:
    """Return the architecture whose active genes, in order, have the values that `choose` returns."""
    values: dict[str, Value] = {}
    for gene in space.genes:
        if gene.is_active(values):
            values[gene.name] = choose(gene)
    return Architecture(tuple(values.items()))


def sample(space: Space, rng: random.Random) -> Architecture:
    """Draw every active gene uniformly from its values, parents first."""
    return choose_each(space, lambda gene: rng.choice(gene.values))


def smallest(space: Space) -> Architecture:
    """Return the first value of every gene: the least depth, width, kernel, and the cheapest op."""
    return choose_each(space, lambda gene: gene.values[0])


def largest(space: Space) -> Architecture:
    """Return the last value of every gene: the greatest depth, width, kernel, and the op of most capacity."""
    return choose_each(space, lambda gene: gene.values[-1])


def mutate(
    space: Space, architecture: Architecture, rng: random.Random, rate: float | None = None
) -> Architecture:
    """Change each choice with probability `rate`, and at least one.

    The result differs if the space has two points.

    A changed gene takes any other value, or, if it is ordered, a neighbouring one half of the time. Genes
    that become active are drawn uniformly. `rate` defaults to one over the number of active choices.
    """
    names = [gene.name for gene in space.choices if gene.name in architecture]
    if not names:
        return architecture
    rate = 1 / len(names) if rate is None else rate
    changing = {name for name in names if rng.random() < rate} or {rng.choice(names)}

    def choose(gene: Gene) -> Value:
        if gene.name not in architecture:
            return rng.choice(gene.values)
        value = architecture[gene.name]
        return _another(gene, value, rng) if gene.name in changing else value

    return choose_each(space, choose)


def _another(gene: Gene, value: Value, rng: random.Random) -> Value:
    """Return a value of the gene other than `value`."""
    at = gene.values.index(value)
    if gene.ordered and rng.random() < 0.5:
        return rng.choice([gene.values[i] for i in (at - 1, at + 1) if 0 <= i < len(gene.values)])
    return rng.choice(gene.values[:at] + gene.values[at + 1 :])


def crossover(space: Space, a: Architecture, b: Architecture, rng: random.Random) -> Architecture:
    """Take every gene from either parent.

    A gene that only one has follows that parent, and one that neither has is drawn.
    """

    def choose(gene: Gene) -> Value:
        known = [parent[gene.name] for parent in (a, b) if gene.name in parent]
        return rng.choice(known or gene.values)

    return choose_each(space, choose)


def enumerate_all(space: Space) -> Iterator[Architecture]:
    """Yield every architecture once, smallest first; the last genes change fastest.

    Look at `space.size` before.
    """
    pending: list[tuple[int, Mapping[str, Value]]] = [(0, {})]
    while pending:
        index, values = pending.pop()
        while index < len(space.genes) and not space.genes[index].is_active(values):
            index += 1
        if index == len(space.genes):
            yield Architecture(tuple(values.items()))
            continue
        gene = space.genes[index]
        pending += [(index + 1, {**values, gene.name: value}) for value in reversed(gene.values)]
