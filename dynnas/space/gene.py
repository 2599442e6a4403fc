"""Choices of a design space, the conditions under which they apply, and how many architectures they span."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from dynnas.space.architecture import Value

Label = int | float | str | bool | None

Condition = tuple[tuple[str, tuple[Value, ...]], ...]

OF_TARGET = "target."
"""The beginning of the names of genes that say how a network runs, not what it is."""

QUANTIZE = f"{OF_TARGET}quantize"
QUANTIZATIONS = ("int8", "none")
"""The gene of quantisation, and what it may be, that of the least capacity first."""


def of_network(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return the values of the genes that say what a network is."""
    return {name: value for name, value in values.items() if not name.startswith(OF_TARGET)}


@dataclass(frozen=True)
class Gene:
    """A named choice among finitely many values, smallest first.

    It is active while every gene named in `condition` is active and has one of the values listed for it.
    `ordered` says that neighbouring values are alike (numbers), so that a search may take small steps.
    """

    name: str
    values: tuple[Value, ...]
    condition: Condition = ()
    ordered: bool = False

    @property
    def fixed(self) -> bool:
        """Return whether there is only one value, so nothing to choose."""
        return len(self.values) == 1

    def is_active(self, values: Mapping[str, Value]) -> bool:
        """Return whether the gene applies, given the values of the *active* genes before it."""
        return all(name in values and values[name] in allowed for name, allowed in self.condition)

    def find(self, value: object) -> int | None:
        """Return the index of `value` among the gene's values, or None where it is not one of them.

        8.0 is found as 8, a list as the tuple, and a tuple by its label; True is not 1.
        """
        places = enumerate(zip(self.values, self.labels, strict=True))
        return next((at for at, (own, label) in places if _alike(own, value) or _alike(label, value)), None)

    @property
    def labels(self) -> tuple[Label, ...]:
        """Return its values as other libraries can store them: tuples are spelled as JSON."""
        return tuple(json.dumps(value) if isinstance(value, tuple) else value for value in self.values)


def prune(genes: Iterable[Gene]) -> tuple[Gene, ...]:
    """Return the same choices without genes that can never be active and conditions that always hold."""
    kept: dict[str, Gene] = {}
    for gene in genes:
        condition = []
        for name, allowed in gene.condition:
            parent = kept.get(name)
            possible = tuple(value for value in allowed if parent is not None and value in parent.values)
            if parent is None or not possible:
                break
            if parent.condition or len(possible) < len(parent.values):
                condition.append((name, possible))
        else:
            kept[gene.name] = replace(gene, condition=tuple(condition))
    return tuple(kept.values())


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


def _alike(own: object, value: object) -> bool:
    if isinstance(own, tuple):
        return isinstance(value, list | tuple) and len(own) == len(value) and all(map(_alike, own, value))
    return own == value and isinstance(own, bool) == isinstance(value, bool)
