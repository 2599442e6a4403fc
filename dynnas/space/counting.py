"""The exact number of architectures of a space, without listing them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from dynnas.space.architecture import Value
from dynnas.space.gene import Gene


def count_architectures(genes: Sequence[Gene]) -> int:
    """Count the distinct assignments of active genes; parents must stand before children.

    One pass in the order of the genes. Partial architectures that agree in every gene that a later condition
    reads have the same continuations, so only their number is kept. A gene is forgotten after the last
    condition that reads it, which keeps the table small: in a network it holds one stage's depth and one
    layer's block or op.
    """
    last_reader = {name: index for index, gene in enumerate(genes) for name, _ in gene.condition}
    table: Counter[tuple[tuple[str, Value], ...]] = Counter({(): 1})
    for index, gene in enumerate(genes):
        following: Counter[tuple[tuple[str, Value], ...]] = Counter()
        is_read = last_reader.get(gene.name, -1) > index
        for known, number in table.items():
            remembered = tuple(item for item in known if last_reader[item[0]] > index)
            if not gene.is_active(dict(known)):
                following[remembered] += number
            elif is_read:
                for value in gene.values:
                    following[*remembered, (gene.name, value)] += number
            else:
                following[remembered] += number * len(gene.values)
        table = following
    return table.total()
