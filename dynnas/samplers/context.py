"""The context shared by the built-in samplers: genes, trials, and metrics that need no trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome, Listed
from dynnas.samplers.history import Reader
from dynnas.samplers.model.cheap_metrics import Cheap, Known
from dynnas.samplers.model.forecasts import forecasts_of
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space


class Ground:
    """The context of one search.

    Args:
        space: of the architectures.
        goal: objectives and limits; without it, what the trials themselves say.
        cheap: metrics that need no evaluation; they are used if there is a goal.
        seed: draws the architectures on which guesses of cheap metrics rest.
        listed: the only architectures to propose, where these are a small part of the space.
        earlier: results of another study, from which metrics of the goal are forecast.
        errors: by metric the standard deviation of an evaluation's error, where it is known.
    """

    def __init__(
        self,
        space: Space,
        goal: Goal | None,
        cheap: Cheap | None,
        seed: int,
        listed: Sequence[Architecture] | None,
        earlier: Sequence[ScoredArchitecture] = (),
        errors: Mapping[str, float] | None = None,
    ) -> None:
        self.genome = Genome(space)
        self.goal = goal
        self.errors = errors or {}
        self.forecasts = forecasts_of(self.genome, goal, earlier) if goal and earlier else {}
        self.reader = Reader(self.genome, goal)
        self.listed = Listed(self.genome, self.genome.encode_all(listed)) if listed else None
        self.known = Known(self.genome, goal, cheap, seed, self.listed) if goal and cheap else None
        self.source = self.listed or self.genome
