"""The built-in samplers by name.

An entry is a class with `make(request)`, which gives a proposer or an Optuna sampler. A class of Optuna
samplers is an entry as well, which is made with a seed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dynnas.samplers.request import SamplerRequest
from dynnas.settings.registries import SAMPLERS

if TYPE_CHECKING:
    from dynnas.samplers.architecture import Proposer
    from dynnas.samplers.genetic import Offspring
    from dynnas.samplers.optuna_proposer import InnerSampler


class SamplerFamily:
    """A sampler by name."""

    ends_first: ClassVar[bool] = True
    """Whether the smallest and the largest architecture come first, which chance alone hardly ever draws."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """The proposer for a study."""
        raise NotImplementedError


def _drawn(request: SamplerRequest, inner: InnerSampler) -> Proposer:
    from dynnas.samplers.optuna_proposer import Drawn

    return Drawn(request.space, inner)


def _offspring(request: SamplerRequest, seed: int) -> Offspring:
    """Crossing and mutating genes: Optuna's own crossover leaves out conditional ones."""
    import random

    from dynnas.samplers.genetic import Offspring

    return Offspring(request.space, random.Random(seed))


@SAMPLERS.register("guided")
class GuidedFamily(SamplerFamily):
    """Evolution screened by a surrogate."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.guided import Guided

        return Guided(request.ground())


@SAMPLERS.register("evolution")
class EvolutionFamily(SamplerFamily):
    """Evolution of the front."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.evolution import Evolution

        return Evolution(request.ground())


@SAMPLERS.register("autoslim")
class AutoSlimFamily(SamplerFamily):
    """Greedy slimming by error."""

    ends_first = False

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.slimming import Slimming

        return Slimming(request.space, request.goal, "loss")


@SAMPLERS.register("autoslim-rate")
class AutoSlimRateFamily(SamplerFamily):
    """Greedy slimming by error per saving, the second objective."""

    ends_first = False

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.slimming import Slimming

        return Slimming(request.space, request.goal, "rate")


@SAMPLERS.register("random")
class RandomFamily(SamplerFamily):
    """Random sampling; without the ends it stays a fair control."""

    ends_first = False

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from optuna.samplers import RandomSampler

        return _drawn(request, lambda seed: RandomSampler(seed=seed))


@SAMPLERS.register("nsga2")
class NSGA2Family(SamplerFamily):
    """NSGA-II (Deb 2002), crossing and mutating genes."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from optuna.samplers import NSGAIISampler

        return _drawn(
            request,
            lambda seed: NSGAIISampler(
                population_size=request.population,
                seed=seed,
                child_generation_strategy=_offspring(request, seed),
            ),
        )


@SAMPLERS.register("nsga3")
class NSGA3Family(SamplerFamily):
    """NSGA-III (Deb 2014), crossing and mutating genes."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from optuna.samplers import NSGAIIISampler

        return _drawn(
            request,
            lambda seed: NSGAIIISampler(
                population_size=request.population,
                seed=seed,
                child_generation_strategy=_offspring(request, seed),
            ),
        )


@SAMPLERS.register("tpe")
class TPEFamily(SamplerFamily):
    """Multivariate TPE, by groups of genes that are active together."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from optuna.samplers import TPESampler

        return _drawn(
            request,
            lambda seed: TPESampler(
                n_startup_trials=request.population,
                seed=seed,
                multivariate=True,
                group=True,
                constant_liar=request.parallel,
            ),
        )


@SAMPLERS.register("gp")
class GPFamily(SamplerFamily):
    """Optuna's Gaussian process; seconds a trial."""

    @staticmethod
    def make(request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from optuna.samplers import GPSampler

        return _drawn(request, lambda seed: GPSampler(n_startup_trials=request.population, seed=seed))
