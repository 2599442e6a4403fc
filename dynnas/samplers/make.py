"""Samplers by name."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from optuna.samplers import BaseSampler, GPSampler, NSGAIIISampler, NSGAIISampler, RandomSampler, TPESampler

from dynnas.errors import StudyError
from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import ArchitectureSampler, Proposer
from dynnas.samplers.cheap_metrics import Cheap
from dynnas.samplers.context import Ground
from dynnas.samplers.evolution import Evolution
from dynnas.samplers.genetic import Offspring
from dynnas.samplers.guided import Guided
from dynnas.samplers.optuna_proposer import Drawn, InnerSampler
from dynnas.samplers.slimming import Slimming
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space

SAMPLERS = ("guided", "evolution", "autoslim", "autoslim-rate", "random", "nsga2", "nsga3", "tpe", "gp")


def make_sampler(
    sampler: str | BaseSampler,
    space: Space,
    *,
    population: int,
    seed: int,
    goal: Goal | None = None,
    cheap: Cheap | None = None,
    listed: Sequence[Architecture] | None = None,
    parallel: bool = False,
) -> ArchitectureSampler:
    """The sampler for `space`; it serves in any Optuna study whose objectives are the goal's.

    Args:
        sampler: any Optuna sampler, whose proposals are made whole and none of them twice; or a name: guided
            (evolution screened by a surrogate) | evolution (of the front) | autoslim (greedy slimming) |
            autoslim-rate (by error per saving, the second objective) | random | nsga2 (Deb 2002, crossing and
            mutating genes) | nsga3 (Deb 2014, likewise) | tpe (multivariate, by groups of genes that are
            active together) | gp (Optuna's Gaussian process; seconds a trial).
        space: of the architectures.
        population: size of a generation of nsga2 and nsga3, and number of random candidates before tpe and gp
            begin.
        seed: draws.
        goal: objectives, in the order of the study, and limits; without it, what the trials themselves say.
        cheap: metrics that need no evaluation, which guided and evolution then compute; needs a goal.
        listed: the only architectures to propose, where these are a small part of the space.
        parallel: whether several trials run at once, which tpe then keeps away from; guided always does.

    Raises:
        StudyError: no sampler has this name.
    """
    if isinstance(sampler, ArchitectureSampler):
        return sampler
    if isinstance(sampler, BaseSampler):
        return ArchitectureSampler(space, Drawn(space, lambda seed: sampler), seed, (), listed, sampler)
    name = sampler

    def offspring(seed: int) -> Offspring:
        # Optuna's own crossover works on the genes that all trials share, and so leaves out conditional ones.
        return Offspring(space, random.Random(seed))

    def ground() -> Ground:
        return Ground(space, goal, cheap, seed, listed)

    inner: dict[str, InnerSampler] = {
        "random": lambda seed: RandomSampler(seed=seed),
        "nsga2": lambda seed: NSGAIISampler(
            population_size=population, seed=seed, child_generation_strategy=offspring(seed)
        ),
        "nsga3": lambda seed: NSGAIIISampler(
            population_size=population, seed=seed, child_generation_strategy=offspring(seed)
        ),
        "tpe": lambda seed: TPESampler(
            n_startup_trials=population, seed=seed, multivariate=True, group=True, constant_liar=parallel
        ),
        "gp": lambda seed: GPSampler(n_startup_trials=population, seed=seed),
    }
    own: dict[str, Callable[[], Proposer]] = {
        "guided": lambda: Guided(ground()),
        "evolution": lambda: Evolution(ground()),
        "autoslim": lambda: Slimming(space, goal, "loss"),
        "autoslim-rate": lambda: Slimming(space, goal, "rate"),
    }
    if goal and cheap and not (cheap(smallest(space)) or {}).keys() & set(goal.metrics):
        cheap = None  # it tells nothing of what is asked for
    if name not in SAMPLERS:
        raise StudyError(f"sampler: found {name!r}; allowed are {', '.join(SAMPLERS)}")
    proposer = own[name]() if name in own else Drawn(space, inner[name])
    # The ends of the front, which chance alone hardly ever draws; `random` stays a fair control.
    first = () if name == "random" or name.startswith("autoslim") else (smallest(space), largest(space))
    return ArchitectureSampler(space, proposer, seed, first, listed)
