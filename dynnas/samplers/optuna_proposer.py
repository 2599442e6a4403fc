"""Optuna's own samplers as proposers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial

from dynnas.samplers.architecture import Proposal, assemble, distribution_of
from dynnas.samplers.genome import Genome
from dynnas.space.architecture import Architecture, Value
from dynnas.space.gene import Gene
from dynnas.space.space import Space

# A repeat is drawn again by the sampler itself, which keeps to its distribution, before its relatives are.
_DRAWS = 5
_MUTATIONS = 50

InnerSampler = Callable[[int], BaseSampler]


@dataclass(frozen=True)
class Always:
    """A factory that returns the same sampler object for every trial."""

    sampler: BaseSampler

    def __call__(self, seed: int) -> BaseSampler:
        """Return the sampler; it has its own randomness."""
        return self.sampler


class Drawn:
    """Proposes the draws of another sampler and, where they are not new, mutants of them.

    Args:
        space: of the architectures.
        inner: makes the sampler from a seed, a new one for every trial.
    """

    def __init__(self, space: Space, inner: InnerSampler) -> None:
        self._space = space
        self._genome = Genome(space)
        self._inner = inner
        self._distributions = {gene.name: distribution_of(gene) for gene in space.choices}

    def __call__(
        self, study: optuna.Study, trial: FrozenTrial, rng: np.random.Generator
    ) -> Iterator[Proposal]:
        """Yield some draws, then mutants of the last one."""
        with warnings.catch_warnings():
            # `group` of TPE, strategies of NSGA-II and GPSampler are called experimental; optuna is pinned.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self._inner(int(rng.integers(2**32)))
        # As it is after `before_trial`, where GridSampler writes down what it has chosen.
        trial = study.get_trials(deepcopy=False)[trial.number]
        for _ in range(_DRAWS):
            architecture = self._draw(sampler, study, trial)
            yield Proposal(architecture)
        row = self._genome.encode(architecture)[None]
        for _ in range(_MUTATIONS):
            row = self._genome.mutate(row, np.ones(1), 0.5, rng)
            yield Proposal(self._genome.decode(row[0]))

    def _draw(self, sampler: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> Architecture:
        drawn = sampler.sample_relative(study, trial, sampler.infer_relative_search_space(study, trial))

        def value_of(gene: Gene) -> Value:
            if gene.name in drawn:
                return drawn[gene.name]
            return cast(
                Value,
                sampler.sample_independent(study, trial, gene.name, self._distributions[gene.name]),
            )

        return assemble(self._space, value_of)
