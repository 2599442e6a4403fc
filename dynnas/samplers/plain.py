"""Samplers of spaces in an Optuna study over ordinary distributions, which has no space."""

from __future__ import annotations

import copy
import random
from collections.abc import Container, Mapping, Sequence
from typing import Any, cast

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import IntersectionSearchSpace
from optuna.trial import FrozenTrial, TrialState

from dynnas.errors import StudyError
from dynnas.samplers.architecture import ArchitectureSampler
from dynnas.samplers.request import SamplerRequest
from dynnas.settings.registries import SAMPLERS
from dynnas.space.gene import Gene
from dynnas.space.space import Space

# Levels of a number with more values than that.
_LEVELS = 33


class PlainSampler(BaseSampler):
    """Proposes values of the parameters that all trials of a study have, as `guided` does for genes.

    A number with many values is seen as 33 levels, even on its scale; a value is drawn from around its level.
    Parameters that only some trials have are random.

    Args:
        sampler: guided | evolution.
        seed: draws.
    """

    def __init__(self, sampler: str = "guided", *, seed: int = 0) -> None:
        self._family = SAMPLERS[sampler]
        self._seed = seed
        self._search_space = IntersectionSearchSpace()
        self._made: dict[str, tuple[dict[str, _Levels], ArchitectureSampler]] = {}
        self._seen: dict[tuple[str, int], FrozenTrial] = {}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters with a choice that all finished trials have."""
        common = self._search_space.calculate(study)
        return {name: distribution for name, distribution in common.items() if not distribution.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for `search_space`; none, which leaves them to chance, where all levels are tried."""
        if not search_space:
            return {}
        key = repr(sorted(search_space.items()))
        if key not in self._made:
            levels = {name: _Levels(name, distribution) for name, distribution in search_space.items()}
            space = Space("plain", tuple(one.gene for one in levels.values()))
            proposer = self._family.make(SamplerRequest(space, population=10, seed=self._seed))
            self._made[key] = levels, ArchitectureSampler(space, proposer, self._seed)
        levels, sampler = self._made[key]
        seen = cast(optuna.Study, _Seen(study, levels, key, self._seen))
        try:
            proposed = sampler.sample_relative(seen, trial, {})
        except StudyError:
            return {}
        rng = np.random.default_rng([self._seed, trial.number])
        return {name: one.draw(proposed[name], rng) for name, one in levels.items()}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value."""
        seed = random.Random(f"{self._seed}/{trial.number}/{param_name}").getrandbits(32)
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def reseed_rng(self) -> None:
        """Draw from another seed, as parallel processes do."""
        self._seed = random.SystemRandom().getrandbits(32)
        self._made.clear()


class _Levels:
    """A parameter as a gene: its values, or levels of them."""

    def __init__(self, name: str, distribution: BaseDistribution) -> None:
        self._distribution = distribution
        if isinstance(distribution, CategoricalDistribution):
            texts = tuple(f"{at} {choice!r}" for at, choice in enumerate(distribution.choices))
            self.gene = Gene(name, texts)
            return
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        self._log = distribution.log
        self._step = float(distribution.step or 0.0)
        self._low, self._high = float(distribution.low), float(distribution.high)
        if self._step and (self._high - self._low) / self._step < _LEVELS:
            levels = np.arange(round((self._high - self._low) / self._step) + 1) * self._step + self._low
        else:
            ends = self._scaled(self._low), self._scaled(self._high)
            levels = np.linspace(*ends, _LEVELS)
            levels = self._snapped(np.exp(levels) if self._log else levels)
        self._levels = np.unique(levels)
        self.gene = Gene(name, tuple(self._levels.tolist()), ordered=True)

    def _scaled(self, value: Any) -> Any:
        return np.log(value) if self._log else value

    def _snapped(self, value: Any) -> Any:
        """Return the nearest value that the distribution has."""
        if self._step:
            value = self._low + np.round((value - self._low) / self._step) * self._step
        return np.clip(value, self._low, self._high)

    def find(self, value: Any) -> object:
        """Return the gene's value that is nearest to the parameter's."""
        if isinstance(self._distribution, CategoricalDistribution):
            return self.gene.values[int(self._distribution.to_internal_repr(value))]
        away = np.abs(self._scaled(self._levels) - self._scaled(float(value)))
        return self.gene.values[int(away.argmin())]

    def draw(self, level: object, rng: np.random.Generator) -> Any:
        """Return a value of the parameter that is nearer to `level` than to any other."""
        at = self.gene.values.index(cast(float, level))
        if isinstance(self._distribution, CategoricalDistribution):
            return self._distribution.choices[at]
        scaled = self._scaled(self._levels)
        around = scaled[[max(at - 1, 0), at, min(at + 1, len(scaled) - 1)]]
        drawn = rng.uniform(*((around[:-1] + around[1:]) / 2))
        value = float(self._snapped(np.exp(drawn) if self._log else drawn))
        return round(value) if isinstance(self._distribution, IntDistribution) else value


class _Seen:
    """A study whose trials have levels for values."""

    def __init__(
        self,
        study: optuna.Study,
        levels: Mapping[str, _Levels],
        key: str,
        finished: dict[tuple[str, int], FrozenTrial],
    ) -> None:
        self._study, self._levels, self._key, self._finished = study, levels, key, finished
        self.directions = study.directions

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> Sequence[FrozenTrial]:
        """Return the trials that have all parameters."""
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [self._seen(trial) for trial in trials if trial.params.keys() >= self._levels.keys()]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        name = self._key, trial.number
        known = self._finished.get(name)
        if known is not None and known.datetime_complete == trial.datetime_complete:
            return known
        seen = copy.copy(trial)
        seen.params = {name: one.find(trial.params[name]) for name, one in self._levels.items()}
        if trial.state.is_finished():
            self._finished[name] = seen
        return seen
