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

from dynnas.errors import ExhaustedError, StudyError
from dynnas.samplers.architecture import ArchitectureSampler
from dynnas.samplers.lock import OwnLock
from dynnas.samplers.request import SamplerRequest
from dynnas.settings.registries import SAMPLERS
from dynnas.space.gene import Gene
from dynnas.space.space import Space

# Levels of a number with more values than that. Where all combinations were tried there are four times as
# many, and so on, up to the last.
_LEVELS, _FINEST = 33, 513


class PlainSampler(BaseSampler):
    """Proposes values of the parameters that all trials of a study have, as `guided` does for genes.

    A number with many values is seen as 33 levels, even on its scale; a value is drawn from around its level.
    Where all combinations of levels were tried, finer ones are. Parameters that only some trials have are
    random. Several threads may ask at once.

    Args:
        sampler: guided, evolution, or a registered one whose class has `plain = True`.
        seed: draws.

    Raises:
        StudyError: the sampler does not serve in such studies, or nothing has this name.
    """

    def __init__(self, sampler: str = "guided", *, seed: int = 0) -> None:
        family = SAMPLERS[sampler]
        if not getattr(family, "plain", False):
            serving = ", ".join(name for name, one in SAMPLERS.items() if getattr(one, "plain", False))
            raise StudyError(
                f"PlainSampler: {sampler} does not serve over ordinary distributions; {serving} do; "
                "Optuna's own samplers are used as they are, such as optuna.samplers.TPESampler()"
            )
        self._family = family
        self._seed = seed
        self._search_space = IntersectionSearchSpace()
        self._made: dict[str, _Levelled] = {}
        self._lock = OwnLock()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return the parameters with a choice that all finished trials have."""
        with self._lock:
            common = self._search_space.calculate(study)
        return {name: distribution for name, distribution in common.items() if not distribution.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return values for `search_space`; none where all values were tried, which leaves them to chance."""
        if not search_space:
            return {}
        key = repr(sorted(search_space.items()))
        with self._lock:
            levelled = self._made.get(key)
            if levelled is None:
                levelled = self._made[key] = _Levelled(self._family, self._seed, search_space, _LEVELS)
            while (proposed := levelled.propose(study, trial)) is None:
                finer = _Levelled(self._family, self._seed, search_space, 4 * levelled.count - 3)
                if finer.count > _FINEST or finer.space.size == levelled.space.size:
                    return {}
                levelled = self._made[key] = finer
        rng = np.random.default_rng([self._seed, trial.number])
        return {
            name: one.draw(proposed.get(name, one.gene.values[0]), rng)
            for name, one in levelled.levels.items()
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return a random value."""
        seed = random.Random(f"{self._seed}/{trial.number}/{param_name}").getrandbits(32)
        return RandomSampler(seed=seed).sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Forget what was proposed for the trial, for the study knows it."""
        with self._lock:
            for levelled in self._made.values():
                levelled.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        """Draw from another seed, as processes of one study do; what was read of a study stays known."""
        self._seed = random.SystemRandom().getrandbits(32)


class _Levelled:
    """The search over levels of some parameters.

    Args:
        family: of the sampler.
        seed: draws.
        search_space: the parameters.
        count: levels of a number, at most.
    """

    def __init__(
        self, family: Any, seed: int, search_space: Mapping[str, BaseDistribution], count: int
    ) -> None:
        self.count = count
        self.levels = {
            name: _Levels(name, distribution, count) for name, distribution in search_space.items()
        }
        self.space = Space("plain", tuple(one.gene for one in self.levels.values()))
        proposer = family.make(SamplerRequest(self.space, population=10, seed=seed))
        self.sampler = ArchitectureSampler(self.space, proposer, seed)
        self._seen: dict[int, FrozenTrial] = {}

    def propose(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any] | None:
        """Return levels that the study has not tried together; None where it has tried all."""
        seen = cast(optuna.Study, _Seen(study, self.levels, self._seen))
        for _ in "12":
            try:
                return self.sampler.sample_relative(seen, trial, {})
            except ExhaustedError:
                self.sampler.release()  # of trials that run a value may come again
        return None


class _Levels:
    """A parameter as a gene: its values, or levels of them.

    Args:
        name: of the parameter.
        distribution: of its values.
        count: levels of a number with more values than that.
    """

    def __init__(self, name: str, distribution: BaseDistribution, count: int = _LEVELS) -> None:
        self._distribution = distribution
        if isinstance(distribution, CategoricalDistribution):
            texts = tuple(f"{at} {choice!r}" for at, choice in enumerate(distribution.choices))
            self.gene = Gene(name, texts)
            return
        assert isinstance(distribution, IntDistribution | FloatDistribution)
        self._log = distribution.log
        self._step = float(distribution.step or 0.0)
        self._low, self._high = float(distribution.low), float(distribution.high)
        if self._step and (self._high - self._low) / self._step < count:
            levels = np.arange(round((self._high - self._low) / self._step) + 1) * self._step + self._low
        else:
            ends = self._scaled(self._low), self._scaled(self._high)
            levels = np.linspace(*ends, count)
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
        drawn = np.exp(drawn) if self._log else drawn
        if not isinstance(self._distribution, IntDistribution):
            return float(self._snapped(drawn))
        # Integers of any size, which a float may round.
        low, high, step = self._distribution.low, self._distribution.high, self._distribution.step
        return low + min(max(round((drawn - low) / step), 0), (high - low) // step) * step


class _Seen:
    """A study whose trials have levels for values."""

    def __init__(
        self, study: optuna.Study, levels: Mapping[str, _Levels], finished: dict[int, FrozenTrial]
    ) -> None:
        self._study, self._levels, self._finished = study, levels, finished
        self.directions = study.directions

    def get_trials(
        self, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> Sequence[FrozenTrial]:
        """Return the trials that have all parameters."""
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [self._seen(trial) for trial in trials if trial.params.keys() >= self._levels.keys()]

    def _seen(self, trial: FrozenTrial) -> FrozenTrial:
        known = self._finished.get(trial.number)
        if known is not None and known.datetime_complete == trial.datetime_complete:
            return known
        seen = copy.copy(trial)
        seen.params = {name: one.find(trial.params[name]) for name, one in self._levels.items()}
        if trial.state.is_finished():
            self._finished[trial.number] = seen
        return seen
