"""Optuna's samplers, made to propose whole architectures of a conditional space and none of them twice."""

from __future__ import annotations

import itertools
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from dynnas.errors import StudyError
from dynnas.search.genetic import Offspring
from dynnas.search.records import proposed_keys
from dynnas.space import Architecture, Gene, Space, Value, enumerate_all, largest, mutate, smallest

SAMPLERS = ("random", "nsga2", "tpe")

# A repeat is drawn again by the sampler itself, which keeps to its distribution, before chance takes over.
_DRAWS = 5
_MUTATIONS = 50

InnerSampler = Callable[[random.Random], BaseSampler]


def distribution_of(gene: Gene) -> BaseDistribution:
    """The Optuna parameter of a gene: its real values, as a range where they are evenly spaced integers."""
    if gene.ordered and all(isinstance(value, int) for value in gene.values):
        steps = {int(b) - int(a) for a, b in itertools.pairwise(gene.values)}
        if len(steps) == 1:
            return IntDistribution(int(gene.values[0]), int(gene.values[-1]), step=steps.pop())
    return CategoricalDistribution(gene.values)


def suggest(trial: optuna.Trial, space: Space) -> Architecture:
    """Ask `trial` for the value of every active gene that leaves a choice; Optuna sees no others."""

    def value_of(gene: Gene) -> Value:
        distribution = distribution_of(gene)
        if isinstance(distribution, IntDistribution):
            return trial.suggest_int(gene.name, distribution.low, distribution.high, step=distribution.step)
        return cast(Value, trial.suggest_categorical(gene.name, gene.values))

    return _assemble(space, value_of)


def make_sampler(name: str, space: Space, *, population: int, seed: int) -> ArchitectureSampler:
    """The sampler of that name for `space`.

    Args:
        name: random | nsga2 (Deb 2002, crossing and mutating genes) | tpe (multivariate, by groups of genes
            that are active together).
        population: size of a generation of nsga2, and number of random candidates before tpe begins.

    Raises:
        StudyError: no sampler has this name.
    """
    inner: dict[str, InnerSampler] = {
        "random": lambda rng: RandomSampler(seed=_seed(rng)),
        # Optuna's own crossover works on the genes that all trials share, and so leaves out conditional ones.
        "nsga2": lambda rng: NSGAIISampler(
            population_size=population, seed=_seed(rng), child_generation_strategy=Offspring(space, rng)
        ),
        "tpe": lambda rng: TPESampler(
            n_startup_trials=population, seed=_seed(rng), multivariate=True, group=True, constant_liar=False
        ),
    }
    if name not in inner:
        raise StudyError(f"sampler: found {name!r}; allowed are {', '.join(SAMPLERS)}")
    # The ends of the front, which chance alone hardly ever draws; `random` stays a fair control.
    first = () if name == "random" else (smallest(space), largest(space))
    return ArchitectureSampler(space, inner[name], seed, first)


class ArchitectureSampler(BaseSampler):
    """Proposes, for every trial, an architecture that the study has not seen, drawn by another sampler.

    It begins with those of `first`.
    All randomness follows from the seed and the number of architectures proposed so far. A search that was
    interrupted therefore goes on exactly as it would have gone.
    """

    def __init__(
        self, space: Space, inner: InnerSampler, seed: int, first: Sequence[Architecture] = ()
    ) -> None:
        self._space = space
        self._inner = inner
        self._seed = seed
        self._first = first
        self._distributions = {gene.name: distribution_of(gene) for gene in space.choices}

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Every gene with a choice, active or not."""
        return self._distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values for all active genes of a new architecture.

        Raises:
            StudyError: the study has seen every architecture of the space.
        """
        taken = proposed_keys(study)
        rng = random.Random(f"{self._seed}/{len(taken)}")
        with warnings.catch_warnings():
            # `group` of TPE and the strategies of NSGA-II are called experimental; optuna is pinned below 6.
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            inner = self._inner(rng)

        proposals = itertools.chain(
            self._first[len(taken) :], self._proposals(lambda: self._draw(inner, study, trial), rng)
        )
        new = next((architecture for architecture in proposals if architecture.key not in taken), None)
        if new is None:
            raise StudyError(
                f"space {self._space.name!r}: all {self._space.size} architectures have been proposed"
            )
        return {name: new[name] for name in self._distributions if name in new}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Never right: `sample_relative` has given every active gene its value."""
        raise StudyError(f"{param_name!r} is not an active gene of the space {self._space.name!r}")

    def _proposals(self, draw: Callable[[], Architecture], rng: random.Random) -> Iterator[Architecture]:
        """What to propose until it is new: draws of the inner sampler, what is near them, anything at all."""
        for _ in range(_DRAWS):
            architecture = draw()
            yield architecture
        for _ in range(_MUTATIONS):
            architecture = mutate(self._space, architecture, rng)
            yield architecture
        # Nearly everything is taken: of the first n + 1 architectures one is new, where n are taken.
        yield from enumerate_all(self._space)

    def _draw(self, inner: BaseSampler, study: optuna.Study, trial: FrozenTrial) -> Architecture:
        drawn = inner.sample_relative(study, trial, inner.infer_relative_search_space(study, trial))

        def value_of(gene: Gene) -> Value:
            if gene.name in drawn:
                return drawn[gene.name]
            return inner.sample_independent(study, trial, gene.name, self._distributions[gene.name])

        return _assemble(self._space, value_of)


def _assemble(space: Space, value_of: Callable[[Gene], Value]) -> Architecture:
    """The architecture in which every active choice has the value that `value_of` gives."""
    values: dict[str, Value] = {}
    for gene in space.genes:
        if space.is_active(gene, values):
            values[gene.name] = gene.values[0] if gene.fixed else value_of(gene)
    return space.architecture(values)


def _seed(rng: random.Random) -> int:
    return rng.getrandbits(32)
