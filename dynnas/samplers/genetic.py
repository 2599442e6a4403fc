"""The way NSGA-II makes a child here: on genes, so that conditional ones take part."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from dynnas.space.moves import crossover, mutate
from dynnas.space.space import Space


class Offspring:
    """A child generation strategy for `optuna.samplers.NSGAIISampler`.

    Two parents by binary tournament (Deb 2002, section III), uniform crossover, and at least one gene
    mutated: a child that repeats a parent would be thrown away.
    """

    def __init__(self, space: Space, rng: random.Random) -> None:
        self._space = space
        self._rng = rng

    def __call__(
        self, study: optuna.Study, search_space: dict[str, BaseDistribution], parents: list[FrozenTrial]
    ) -> dict[str, Any]:
        """Return the genes of one child of `parents`, the elite that NSGA-II has selected."""
        first, second = (
            self._space.architecture(self._tournament(parents, study.directions).params) for _ in "12"
        )
        child = crossover(self._space, first, second, self._rng)
        return dict(mutate(self._space, child, self._rng))

    def _tournament(self, parents: list[FrozenTrial], directions: Sequence[StudyDirection]) -> FrozenTrial:
        first, second = self._rng.choice(parents), self._rng.choice(parents)
        return second if _beats(second, first, directions) else first


def _beats(first: FrozenTrial, second: FrozenTrial, directions: Sequence[StudyDirection]) -> bool:
    """Return whether one result beats another: less violation wins; without any, Pareto dominance decides."""
    violation, other_violation = _violation(first), _violation(second)
    if violation or other_violation:
        return violation < other_violation
    signs = [-1 if direction == StudyDirection.MAXIMIZE else 1 for direction in directions]
    gains = [sign * (b - a) for sign, a, b in zip(signs, first.values, second.values, strict=True)]
    return max(gains) > 0 and min(gains) >= 0


def _violation(trial: FrozenTrial) -> float:
    return sum(max(value, 0.0) for value in trial.constraints.values())
