"""The controls of a search: random networks, the static part of the space, one width for all layers."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from dynnas.documents import Document
from dynnas.errors import SpaceError
from dynnas.pareto.front import Front, ScoredArchitecture, reference_point, scored_from_json, scored_to_json
from dynnas.pareto.noise import tested
from dynnas.pareto.objectives import Goal, Objective
from dynnas.progress import Progress
from dynnas.samplers.make import make_sampler
from dynnas.search.evaluator import AnyEvaluator, assess, cheap_of
from dynnas.search.loop import SearchLoop
from dynnas.search.storage.storage import open_storage
from dynnas.search.storage.studies import open_trials
from dynnas.search.workers.pool import WorkerPool
from dynnas.settings.settings import SearchSettings
from dynnas.space.architecture import Architecture, Value
from dynnas.space.choices import argument_of
from dynnas.space.gene import Gene
from dynnas.space.space import Space
from dynnas.study.static_part import static_part

DOCUMENT = Document("dynnas_controls", 1, "search again")

# Where the widths, and where all other choices, of uniform-width networks stand among their values.
_WIDTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
_REST = (0.0, 0.5, 1.0)

UNSELECTED = 10
"""The number of random networks that are tested beside the fronts, to tell what selection does to a score."""

# The random control must not begin with the random candidates of the search itself.
_OTHER_SEED = 1_000_003


@dataclass(frozen=True)
class Controls:
    """The candidates that the search is compared with.

    A group is empty where it makes no sense for the space.

    Attributes:
        random: half as many random networks as the search had trials.
        static: what the same sampler finds, in as many trials, among networks with nothing dynamic; those
            that the search itself has found come first.
        uniform: static networks whose widths all stand at the same quantile (as in US-Nets, Yu 2019).
    """

    random: tuple[ScoredArchitecture, ...] = ()
    static: tuple[ScoredArchitecture, ...] = ()
    uniform: tuple[ScoredArchitecture, ...] = ()

    @property
    def groups(self) -> dict[str, tuple[ScoredArchitecture, ...]]:
        """The groups that are not empty, by name."""
        groups = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: candidates for name, candidates in groups.items() if candidates}

    def to_json(self, comparison: Comparison) -> str:
        """Return a document that `load` reads back, with the comparison for the reader."""
        groups = {
            name: [scored_to_json(candidate) for candidate in candidates]
            for name, candidates in self.groups.items()
        }
        return DOCUMENT.write({**asdict(comparison), "groups": groups})

    @staticmethod
    def load(path: Path) -> Controls:
        """Read what `to_json` wrote.

        Raises:
            StudyError: not such a document, or of another format.
        """
        return DOCUMENT.load(path, _controls)


def _controls(document: Mapping[str, Any]) -> Controls:
    groups = document["groups"].items()
    return Controls(**{name: tuple(map(scored_from_json, group)) for name, group in groups})


@dataclass(frozen=True)
class Comparison:
    """Hypervolumes of the fronts of a search and its controls, by name.

    Attributes:
        reference: that of all these fronts; see `dynnas.pareto.front.reference_point`.
        hypervolume: between each front and the reference, in the product of the objectives' units.
        test: the same of the same fronts by their scores on the test split, for those that are tested, with a
            reference of their own.
        optimism: by how much the scores that chose the members of the search's front exceed those on the
            test split, in the mean over members; None where they are not tested.
        unselected_optimism: the same over random networks, which nothing has chosen: what is not selection
            but a difference of the splits.
        order: Spearman's correlation of these two scores over the search's front.
    """

    reference: Mapping[str, float]
    hypervolume: Mapping[str, float]
    test: Mapping[str, float] = field(default_factory=dict)
    optimism: float | None = None
    unselected_optimism: float | None = None
    order: float | None = None

    @staticmethod
    def of(
        searched: Sequence[ScoredArchitecture],
        controls: Controls,
        objectives: tuple[Objective, ...],
        finished: Front | None = None,
    ) -> Comparison:
        """Compare what was searched with its controls; `finished` is the search's front, tested."""
        groups = {"search": tuple(searched), **controls.groups}
        fronts = {name: Front.of(group, objectives) for name, group in groups.items()}
        if not any(fronts.values()):
            return Comparison({}, {})
        reference = reference_point(fronts.values())
        volumes = {name: front.hypervolume(reference) for name, front in fronts.items()}
        if finished:
            fronts["search"] = finished
        first = next((each for each in objectives if each.direction == "maximize"), objectives[0])
        return Comparison(
            reference,
            volumes,
            _tested_volumes(fronts, objectives, first),
            _optimism(fronts["search"], first),
            _optimism(controls.random[:UNSELECTED], first),
            _order(fronts["search"], first),
        )


def _tested_volumes(
    fronts: Mapping[str, Front], objectives: tuple[Objective, ...], score: Objective
) -> dict[str, float]:
    """Return the hypervolumes of the fronts whose every member is tested."""
    name = tested(score.name)
    known = {
        group: front.members
        for group, front in fronts.items()
        if front and all(name in member.metrics for member in front)
    }
    if not known:
        return {}
    told = tuple(replace(each, name=name) if each == score else each for each in objectives)
    by_test = {group: Front.of(members, told) for group, members in known.items()}
    reference = reference_point(by_test.values())
    return {group: front.hypervolume(reference) for group, front in by_test.items()}


def _optimism(candidates: Sequence[ScoredArchitecture], score: Objective) -> float | None:
    name = tested(score.name)
    excess = [
        -score.sign * (candidate.metrics[score.name] - candidate.metrics[name])
        for candidate in candidates
        if name in candidate.metrics
    ]
    return sum(excess) / len(excess) if excess else None


def _order(front: Front, score: Objective) -> float | None:
    name = tested(score.name)
    scores = [
        (member.metrics[score.name], member.metrics[name]) for member in front if name in member.metrics
    ]
    if any(len(set(each)) < 2 for each in zip(*scores, strict=True)) or not scores:
        return None

    from scipy.stats import spearmanr  # slow to import, and seldom needed

    return float(spearmanr(scores).statistic)


def evaluate_controls(
    space: Space,
    evaluator: AnyEvaluator,
    goal: Goal,
    search: SearchSettings,
    progress: Progress,
    pool: WorkerPool | None = None,
    searched: Sequence[ScoredArchitecture] = (),
) -> Controls:
    """Evaluate every control under the limits of the search; what a cache holds costs nothing.

    The static-only control begins with the static networks that the search itself has found, which count as
    trials of its own. There are half as many random networks as the search had trials: enough to see whether
    the search is better than chance.

    Args:
        searched: the candidates that the search has found.

    Raises:
        StudyError: evaluations keep failing.
    """

    def found_by(
        sampler: str, part: Space, seed: int, name: str, trials: int, known: Sequence[Architecture] = ()
    ) -> tuple[ScoredArchitecture, ...]:
        chosen = make_sampler(
            sampler,
            part,
            population=search.population,
            seed=seed,
            goal=goal,
            cheap=cheap_of(evaluator),
            parallel=pool is not None,
        )
        study = open_trials(open_storage(None), name, part, goal.objectives, chosen)
        for architecture in known:
            study.enqueue_trial(
                {
                    gene.name: gene.labels[gene.values.index(architecture[gene.name])]
                    for gene in part.choices
                    if gene.name in architecture
                }
            )
        loop = SearchLoop(study, part, evaluator, goal, pool=pool)
        loop.run(trials, progress, name)
        return tuple(replace(candidate, trial=None) for candidate in loop.candidates())

    static = static_part(space)
    return Controls(
        random=found_by(
            "random", space, search.seed + _OTHER_SEED, "random control", max(1, search.trials // 2)
        ),
        static=(
            found_by(
                search.sampler,
                static,
                search.seed,
                "static-only control",
                search.trials,
                _among(static, searched),
            )
            if static and static.digest != space.digest
            else ()
        ),
        uniform=_evaluate_all(uniform_widths(static), evaluator, goal, progress) if static else (),
    )


def _among(space: Space, candidates: Sequence[ScoredArchitecture]) -> list[Architecture]:
    """Return the architectures of those candidates that `space` has, too."""
    found = []
    for candidate in candidates:
        with suppress(SpaceError):
            found.append(space.architecture(candidate.architecture))
    return found


def uniform_widths(space: Space) -> tuple[Architecture, ...]:
    """Return networks with all widths and expansions at one quantile, and other choices at another.

    There are none where no choice is a width.
    """

    def is_width(gene: Gene) -> bool:
        return argument_of(gene.name).rpartition(".")[2] in ("width", "expand")

    def value_at(gene: Gene, width: float, rest: float) -> Value:
        return gene.values[round((width if is_width(gene) else rest) * (len(gene.values) - 1))]

    if not any(map(is_width, space.genes)):
        return ()
    networks = (
        space.architecture({gene.name: value_at(gene, width, rest) for gene in space.genes})
        for width, rest in itertools.product(_WIDTHS, _REST)
    )
    return tuple(dict.fromkeys(networks))


def _evaluate_all(
    architectures: Sequence[Architecture], evaluator: AnyEvaluator, goal: Goal, progress: Progress
) -> tuple[ScoredArchitecture, ...]:
    found = []
    with progress.task("uniform-width control", total=len(architectures)) as task:
        for architecture in architectures:
            try:
                assessment = assess(evaluator, architecture, goal)
            except Exception as error:  # as in a search, one failure is the candidate's own
                progress.message(f"uniform-width control: a candidate failed: {error}")
            else:
                if not assessment.rejection:
                    found.append(ScoredArchitecture(architecture, assessment.metrics))
            task.advance()
    return tuple(found)
