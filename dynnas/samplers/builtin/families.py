"""The built-in samplers by name.

An entry is a class with `make(request)`, which gives a proposer or an Optuna sampler. A class of Optuna
samplers is an entry as well, which is made with a seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from dynnas.samplers.request import SamplerRequest
from dynnas.settings.registries import SAMPLERS

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

    from dynnas.samplers.architecture import Proposer
    from dynnas.space.space import Space


class SamplerFamily:
    """A sampler by name."""

    ends_first: ClassVar[bool] = True
    """True if the smallest and the largest architecture come first: chance alone hardly ever draws them."""

    learns_earlier: ClassVar[bool] = False
    """True if it learns from results of another study."""

    plain: ClassVar[bool] = False
    """True if it serves over ordinary distributions, by `PlainSampler`."""

    @classmethod
    def make(cls, request: SamplerRequest) -> Proposer:
        """Return the proposer for a study."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Seeded:
    """Makes an Optuna sampler from a seed; unlike a closure it can be pickled, as Ray Tune does.

    Attributes:
        kind: the sampler's name in `optuna.samplers`.
        options: its arguments beside the seed.
        crossed: the space whose genes children cross and mutate: Optuna's own crossover leaves out
            conditional ones. None for samplers without children.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    crossed: Space | None = None

    def __call__(self, seed: int) -> BaseSampler:
        """Return the sampler of that seed."""
        import random

        import optuna

        from dynnas.samplers.genetic import Offspring

        options = dict(self.options)
        if self.crossed is not None:
            options["child_generation_strategy"] = Offspring(self.crossed, random.Random(seed))
        sampler: BaseSampler = getattr(optuna.samplers, self.kind)(seed=seed, **options)
        return sampler


class _OptunaFamily(SamplerFamily):
    """A sampler of Optuna, whose proposals become whole architectures without repeats."""

    kind: ClassVar[str]
    """The sampler's name in `optuna.samplers`."""

    crosses: ClassVar[bool] = False
    """True if it makes children of two parents."""

    @classmethod
    def make(cls, request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.optuna_proposer import Drawn

        crossed = request.space if cls.crosses else None
        return Drawn(request.space, _Seeded(cls.kind, cls.options(request), crossed))

    @staticmethod
    def options(request: SamplerRequest) -> dict[str, Any]:
        """Return the sampler's arguments beside the seed."""
        return {}


@SAMPLERS.register("guided")
class GuidedFamily(SamplerFamily):
    """Evolution screened by a surrogate (`Guided`)."""

    learns_earlier = True
    plain = True

    @classmethod
    def make(cls, request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.guided import Guided

        return Guided(request.ground())


@SAMPLERS.register("evolution")
class EvolutionFamily(SamplerFamily):
    """Evolution of the front."""

    plain = True

    @classmethod
    def make(cls, request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.evolution import Evolution

        return Evolution(request.ground())


@SAMPLERS.register("autoslim")
class AutoSlimFamily(SamplerFamily):
    """Greedy slimming by error."""

    ends_first = False
    rule: ClassVar[Literal["loss", "rate"]] = "loss"

    @classmethod
    def make(cls, request: SamplerRequest) -> Proposer:
        """See `SamplerFamily`."""
        from dynnas.samplers.slimming import Slimming

        return Slimming(request.space, request.goal, cls.rule)


@SAMPLERS.register("autoslim-rate")
class AutoSlimRateFamily(AutoSlimFamily):
    """Greedy slimming by error per saving, the second objective."""

    rule = "rate"


@SAMPLERS.register("random")
class RandomFamily(_OptunaFamily):
    """Random sampling; without the ends it stays a fair control."""

    ends_first = False
    kind = "RandomSampler"


@SAMPLERS.register("nsga2")
class NSGA2Family(_OptunaFamily):
    """NSGA-II (Deb 2002), crossing and mutating genes."""

    kind = "NSGAIISampler"
    crosses = True

    @staticmethod
    def options(request: SamplerRequest) -> dict[str, Any]:
        """See `_OptunaFamily`."""
        return {"population_size": request.population}


@SAMPLERS.register("nsga3")
class NSGA3Family(NSGA2Family):
    """NSGA-III (Deb 2014), crossing and mutating genes."""

    kind = "NSGAIIISampler"


@SAMPLERS.register("tpe")
class TPEFamily(_OptunaFamily):
    """Multivariate TPE, by groups of genes that are active together."""

    kind = "TPESampler"

    @staticmethod
    def options(request: SamplerRequest) -> dict[str, Any]:
        """See `_OptunaFamily`."""
        return {
            "n_startup_trials": request.population,
            "multivariate": True,
            "group": True,
            "constant_liar": request.parallel,
        }


@SAMPLERS.register("gp")
class GPFamily(_OptunaFamily):
    """Optuna's Gaussian process; seconds a trial."""

    kind = "GPSampler"

    @staticmethod
    def options(request: SamplerRequest) -> dict[str, Any]:
        """See `_OptunaFamily`."""
        return {"n_startup_trials": request.population}
