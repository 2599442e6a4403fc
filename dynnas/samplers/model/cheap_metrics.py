"""Metrics that need no evaluation: computed where they decide, and guessed for large numbers of rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property

import numpy as np

from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome, Listed, Rows
from dynnas.samplers.model.surrogate import Belief, fit_kernel
from dynnas.samplers.model.warp import Warp
from dynnas.space.architecture import Architecture

# Random architectures whose cheap metrics are computed once, and how many of them set the kernel.
_SURVEYED, _FITTED = 256, 128


Cheap = Callable[[Architecture], Mapping[str, float] | None]
"""A function that returns, by name, metrics of an architecture that are exact and take about a millisecond;
None for one that cannot be evaluated. It always gives the same metrics, with the values of an evaluation.
"""


class Known:
    """The cheap metrics that occur in a goal.

    Args:
        genome: of the space.
        goal: its objectives and limits.
        cheap: gives the metrics of an architecture; None for one that cannot be evaluated.
        seed: draws the architectures on which the guesses rest.
        listed: the only rows that can be evaluated, if they are few.
    """

    def __init__(
        self, genome: Genome, goal: Goal, cheap: Cheap, seed: int, listed: Listed | None = None
    ) -> None:
        self._source = listed or genome
        self.goal = goal
        self._genome = genome
        self._cheap = cheap
        self._seed = seed
        self._computed: dict[bytes, Mapping[str, float] | None] = {}

    def exact(self, row: np.ndarray) -> Mapping[str, float] | None:
        """Return the cheap metrics of one architecture; None if it cannot be evaluated."""
        name = row.tobytes()
        if name not in self._computed:
            self._computed[name] = self._cheap(self._genome.decode(row))
        return self._computed[name]

    def worth_trying(self, rows: Rows) -> np.ndarray:
        """Return the indices of those that can be evaluated and keep the known limits.

        If none does, all of them are returned.
        """
        metrics = [self.exact(row) for row in rows]
        kept = [
            at for at, known in enumerate(metrics) if known is not None and not self.goal.rejection(known)
        ]
        return np.array(kept or range(len(rows)), dtype=int)

    @cached_property
    def survey(self) -> tuple[Rows, Mapping[str, np.ndarray]]:
        """Return random architectures, and by name the cheap metrics of each that occur in the goal."""
        rng = np.random.default_rng(self._seed)
        drawn = np.unique(self._source.sample(_SURVEYED, rng), axis=0)
        drawn = drawn[rng.permutation(len(drawn))]
        found = [(row, known) for row in drawn if (known := self.exact(row)) is not None]
        names = [name for name in self.goal.metrics if found and name in found[0][1]]
        values = {name: np.array([known[name] for _, known in found], dtype=float) for name in names}
        return np.array([row for row, _ in found], dtype=np.int16).reshape(-1, drawn.shape[1]), values

    @cached_property
    def guesses(self) -> Mapping[str, Guess]:
        """Return a guess by name for every cheap metric that occurs in the goal."""
        rows, metrics = self.survey
        features = self._genome.features(rows) if metrics else rows
        return {name: Guess.of(self._genome, features, values) for name, values in metrics.items()}

    @cached_property
    def hint(self) -> Belief | None:
        """Return a process of normal scores of the first cheap metric, which others may depend on."""
        rows, metrics = self.survey
        if not metrics:
            return None
        values, features = next(iter(metrics.values()))[:_FITTED], self._genome.features(rows[:_FITTED])
        warped = Warp.of("rank", values)(values)
        return Belief(fit_kernel(features, self._genome.layout, warped), features, warped)


class Guess:
    """A regression of a cheap metric, in the metric's own unit."""

    def __init__(self, mean: float, deviation: float, belief: Belief) -> None:
        self._mean, self._deviation, self._belief = mean, deviation, belief

    @staticmethod
    def of(genome: Genome, features: np.ndarray, values: np.ndarray) -> Guess:
        """Fit the guess to `values` of architectures with these `features`."""
        mean, deviation = float(values.mean()), float(values.std()) or 1.0
        scaled = (values - mean) / deviation
        kernel = fit_kernel(features[:_FITTED], genome.layout, scaled[:_FITTED])
        return Guess(mean, deviation, Belief(kernel, features, scaled))

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Return the most likely values."""
        return self._mean + self._deviation * self._belief.mean(features)
