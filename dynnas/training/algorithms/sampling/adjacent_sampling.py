"""Sampling by size: networks of one step are of about one size, and so are those of the next step."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dynnas.space.architecture import Architecture
from dynnas.space.moves import choose_each, sample
from dynnas.space.space import Space
from dynnas.training.algorithm import Algorithm, Pass, Run, register_algorithm, setting
from dynnas.training.algorithms.sampling.sizes import DRAWS, Sizes
from dynnas.training.models import SupernetModel


@register_algorithm("adjacent_sampling")
@dataclass(eq=False)
class AdjacentSampling(Algorithm):
    """Networks that are trained together, or one step after the other, do not differ much in multiply-adds.

    ElasticViT's complexity-aware sampling (Tang et al. 2023, arXiv:2303.09730, section 4.1; the authors'
    `adjacent_step`): in spaces whose networks differ tenfold in size, gradients of small and large ones point
    apart. The range from the smallest to the largest is cut into `levels`, each as many times as large as the
    one before it. A level goes down, stays or goes up by one at each step, and random networks of that level
    are trained. With them trains one of several smallest networks: the largest of `anchors` that is not above
    the level. The paper's are chosen by hand; here all choices of an anchor stand at the same place between
    their least and their greatest value.

    The largest network of a step comes first and teaches the others. It takes the place of `sandwich`.
    """

    name = "adjacent_sampling"

    random: int = setting(3, "networks of the step's level", minimum=1)
    levels: int = setting(5, "ranges of multiply-adds", minimum=1)
    anchors: int = setting(3, "smallest networks; 1 for the smallest of the space alone", minimum=1)

    def on_start(self, run: Run) -> None:
        """Begin without known sizes."""
        model = run.model
        self._sizes = Sizes(model.module) if isinstance(model, SupernetModel) else None
        self._walk = [0]

    def networks(self, run: Run) -> Sequence[Pass] | None:
        """Return the networks of a step, the one with the most multiply-adds first."""
        space = run.model.space
        if space is None:
            return None
        assert self._sizes is not None
        sizes, inputs = self._sizes, run.inputs
        low, high = sizes.levels(space, self.levels, inputs)[self.level(run.seed, run.step)]
        rng = random.Random(f"adjacent {run.seed} {run.step}")
        drawn = [_between(space, sizes, low, high, inputs, rng) for _ in range(self.random)]
        known = anchors(space, self.anchors)
        fitting = [each for each in known if sizes.of(each, inputs) <= low] or [known[0]]
        found = dict.fromkeys((*drawn, fitting[-1]))
        ordered = sorted(found, key=lambda each: sizes.of(each, inputs), reverse=True)
        return [Pass(each, open_gates=not place) for place, each in enumerate(ordered)]

    def level(self, seed: int, step: int) -> int:
        """Return the level of a step, from 0, which follows from (seed, step) alone.

        At the ends it stays with probability 2/3, and elsewhere it goes each way with 1/3, as in the authors'
        code.
        """
        while len(self._walk) <= step:
            last = self._walk[-1]
            move = random.Random(f"level {seed} {len(self._walk)}").choice((-1, 0, 1))
            self._walk.append(min(max(last + move, 0), self.levels - 1))
        return self._walk[step]


def anchors(space: Space, count: int) -> Sequence[Architecture]:
    """Return networks whose values all stand at one place of their range, the smallest of the space first."""

    def at(share: float) -> Architecture:
        return choose_each(space, lambda gene: gene.values[int(share * (len(gene.values) - 1))])

    return list(dict.fromkeys(at(number / count) for number in range(count)))


def _between(
    space: Space, sizes: Sizes, low: int, high: int, inputs: object, rng: random.Random
) -> Architecture:
    """Draw a network of a range of sizes; if none of `DRAWS` is inside, that which is nearest to it."""
    found, least = sample(space, rng), float("inf")
    for _ in range(DRAWS):
        drawn = sample(space, rng)
        size = sizes.of(drawn, inputs)
        away = max(low - size, size - high, 0)
        if away < least:
            found, least = drawn, away
        if not away:
            break
    return found
