"""The request of a study to a sampler that it names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dynnas.pareto.front import ScoredArchitecture
    from dynnas.pareto.objectives import Goal
    from dynnas.samplers.context import Ground
    from dynnas.samplers.model.cheap_metrics import Cheap
    from dynnas.space.architecture import Architecture
    from dynnas.space.space import Space


@dataclass(frozen=True)
class SamplerRequest:
    """The facts that a sampler is made for.

    Attributes:
        space: of the architectures.
        population: size of a generation, and number of random candidates before a model begins.
        seed: draws.
        goal: objectives, in the order of the study, and limits; None for what the trials themselves say.
        cheap: metrics that need no evaluation; None where there are none.
        listed: the only architectures to propose, where these are a small part of the space.
        parallel: whether several trials run at once.
        earlier: results of another study.
        errors: by metric the standard deviation of an evaluation's error, where it is known.
    """

    space: Space
    population: int
    seed: int
    goal: Goal | None = None
    cheap: Cheap | None = None
    listed: Sequence[Architecture] | None = None
    parallel: bool = False
    earlier: Sequence[ScoredArchitecture] = ()
    errors: Mapping[str, float] = field(default_factory=dict)

    def ground(self) -> Ground:
        """Return the context of the built-in samplers."""
        from dynnas.samplers.context import Ground

        return Ground(self.space, self.goal, self.cheap, self.seed, self.listed, self.earlier, self.errors)
