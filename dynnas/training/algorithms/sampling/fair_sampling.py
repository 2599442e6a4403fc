"""Equal updates for every choice."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dynnas.space.architecture import Architecture, Value
from dynnas.space.space import Space
from dynnas.training.algorithm import Algorithm, Pass, Run, register_algorithm


@register_algorithm("fair_sampling")
@dataclass(eq=False)
class FairSampling(Algorithm):
    """A step trains as many networks as a gene has values, and each value in one of them (strict fairness).

    FairNAS (Chu et al. 2021, arXiv:1907.01845, algorithm 1), whose genes all have the same number of values.
    Here the gene with the most values sets the number of networks, and the others' values take turns over
    steps, so that after a few steps each was used as often.
    """

    name = "fair_sampling"

    def networks(self, run: Run) -> Sequence[Pass] | None:
        """Return the networks of a step; None for a single network."""
        if run.model.space is None:
            return None
        return [Pass(each) for each in fair_networks(run.model.space, run.seed, run.step)]


def fair_networks(space: Space, seed: int, step: int) -> tuple[Architecture, ...]:
    """Return the networks of a step, derived from (seed, step) alone.

    Genes that do not apply in a network, because of what others say there, are not counted.
    """
    count = max(len(gene.values) for gene in space.genes)
    columns = {
        gene.name: _turns(gene.values, f"fair {seed} {gene.name}", step * count, count)
        for gene in space.genes
    }
    rows = ({name: values[place] for name, values in columns.items()} for place in range(count))
    return tuple(space.architecture(row) for row in rows)


def _turns(values: Sequence[Value], key: str, start: int, count: int) -> list[Value]:
    """Return the entries `start` to `start + count` of an endless row of shuffles of `values`."""
    found: list[Value] = []
    turn = start // len(values)
    while len(found) < start % len(values) + count:
        shuffled = list(values)
        random.Random(f"{key} {turn}").shuffle(shuffled)
        found += shuffled
        turn += 1
    return found[start % len(values) :][:count]
