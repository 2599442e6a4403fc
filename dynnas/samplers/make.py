"""Samplers by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from optuna.samplers import BaseSampler

from dynnas.errors import StudyError
from dynnas.pareto.front import ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.samplers.architecture import ArchitectureSampler
from dynnas.samplers.model.cheap_metrics import Cheap
from dynnas.samplers.optuna_proposer import Always, Drawn
from dynnas.samplers.request import SamplerRequest
from dynnas.settings.registries import SAMPLERS
from dynnas.space.architecture import Architecture
from dynnas.space.moves import largest, smallest
from dynnas.space.space import Space


def check_learns(sampler: str | BaseSampler) -> None:
    """Check that a sampler learns from results of another study.

    Raises:
        StudyError: it does not.
    """
    if not (isinstance(sampler, str) and getattr(SAMPLERS[sampler], "learns_earlier", False)):
        name = sampler if isinstance(sampler, str) else type(sampler).__name__
        raise StudyError(
            f"earlier results are for the sampler guided, which learns from them; {name} does not: "
            "leave them out, or search with guided"
        )


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
    starts: Sequence[Architecture] = (),
    earlier: Sequence[ScoredArchitecture] = (),
    errors: Mapping[str, float] | None = None,
) -> ArchitectureSampler:
    """Return the sampler for `space`; it serves in any Optuna study whose objectives are the goal's.

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
        starts: architectures to propose first.
        earlier: results of another study of this space, or of one with some of its architectures, such as
            those for another device; needs a goal. From those whose names the goal has, guided forecasts the
            metrics, and learns from the trials how far they carry over.
        errors: by objective the standard deviation of an evaluation's own error, such as an accuracy on a few
            random images has; needs a goal. guided then looks for the best truth, not for the luckiest
            result. Without it every result is the truth.

    Raises:
        StudyError: no sampler has this name, or it does not learn from `earlier`.
    """
    if isinstance(sampler, ArchitectureSampler):
        return sampler
    if earlier:
        check_learns(sampler)
    if isinstance(sampler, BaseSampler):
        return ArchitectureSampler(space, Drawn(space, Always(sampler)), seed, starts, listed, sampler)
    if goal and cheap and not (cheap(smallest(space)) or {}).keys() & set(goal.metrics):
        cheap = None  # it tells nothing of what is asked for
    family = SAMPLERS[sampler]
    request = SamplerRequest(space, population, seed, goal, cheap, listed, parallel, earlier, errors or {})
    made = family.make(request) if hasattr(family, "make") else family(seed=seed)
    # Texts have no order, and so no ends.
    ends = getattr(family, "ends_first", False) and any(gene.ordered for gene in space.choices)
    first = (*starts, smallest(space), largest(space)) if ends else tuple(starts)
    if isinstance(made, BaseSampler):
        return ArchitectureSampler(space, Drawn(space, Always(made)), seed, first, listed, made)
    return ArchitectureSampler(space, made, seed, first, listed)
