"""The sandwich rule: every step trains the largest, the smallest and some random networks."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, sample, smallest
from dynnas.space.space import Space
from dynnas.training.algorithm import Algorithm, Pass, Run, register_algorithm, setting


@register_algorithm("sandwich")
@dataclass(eq=False)
class Sandwich(Algorithm):
    """Largest, smallest and random networks of a supernet (US-Nets: Yu and Huang 2019, arXiv:1903.05134).

    Their gradients add up. The largest is run without its gates, which would hold back what it teaches. It
    costs the most: with `largest_every` it is trained less often, and in between in-place distillation asks
    it without a backward pass. With `largest_first` it is trained alone at first, and the others begin with
    its weights, as in OFA (Cai et al. 2020, arXiv:1908.09791).
    """

    name = "sandwich"

    random: int = setting(2, "random networks beside the largest and the smallest", minimum=0)
    largest_every: int = setting(1, "steps from one that trains the largest network to the next", minimum=1)
    largest_first: float = setting(
        0.0,
        "share of the steps, from the first on, that train the largest network alone",
        minimum=0.0,
        maximum=1.0,
    )

    def networks(self, run: Run) -> Sequence[Pass] | None:
        """Return the networks of a step, largest first; None for a single network."""
        if run.model.space is None:
            return None
        first, *others = sandwich(run.model.space, self.random, run.seed, run.step)
        if run.step < int(self.largest_first * run.total):
            return [Pass(first, open_gates=True)]
        if run.step % self.largest_every and others:
            return [Pass(each, teaches=False) for each in others]
        return [Pass(first, open_gates=True), *map(Pass, others)]


def sandwich(space: Space, randoms: int, seed: int, step: int) -> tuple[Architecture, ...]:
    """Return the largest, the smallest and `randoms` random architectures, without repeats, largest first.

    Derived from (seed, step) alone, so that an interrupted training, or another rank, draws the same.
    """
    rng = random.Random(f"sandwich {seed} {step}")
    drawn = (sample(space, rng) for _ in range(randoms))
    return tuple(dict.fromkeys((largest(space), smallest(space), *drawn)))
