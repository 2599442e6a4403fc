"""The conformance suite of samplers: `check_sampler` over any name or class of Optuna samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import optuna
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import TrialState, create_trial

from dynnas.errors import SpaceError, StudyError
from dynnas.samplers.architecture import ArchitectureSampler, distribution_of, suggest
from dynnas.samplers.make import make_sampler
from dynnas.search.storage.studies import quiet_optuna
from dynnas.settings.registries import SAMPLERS
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.moves import enumerate_all
from dynnas.space.space import Space

TRIALS = 24
_POPULATION = 4

CONDITIONAL = Space(
    "conditional",
    (
        Gene("depth", (1, 2, 3), ordered=True),
        Gene("width", (8, 16, 24, 32), ordered=True),
        Gene("op", ("static", "mixed")),
        Gene("experts", (2, 4), (("op", ("mixed",)),), ordered=True),
        Gene("fixed", ("only",)),
        Gene("second.kernel", (3, 5, 9), (("depth", (2, 3)),), ordered=True),
        Gene("third.shape", ((1, 1), (2, 1)), (("depth", (3,)),)),
    ),
)
"""Ranges, texts, tuples, a gene without a choice, and genes that are active under conditions only."""

SMALL = Space("small", tuple(Gene(f"x{at}", (1, 2), ordered=True) for at in range(3)))


@dataclass(frozen=True)
class SamplerSubject:
    """A sampler to check.

    Attributes:
        sampler: a registered name, or what makes an Optuna sampler from a seed, such as its class.
        trials: of a study on which it is judged.
    """

    sampler: str | Callable[..., BaseSampler]
    trials: int = TRIALS

    def __str__(self) -> str:
        """Return the name, for messages."""
        return self.sampler if isinstance(self.sampler, str) else getattr(self.sampler, "__name__", "given")

    def make(
        self, space: Space, seed: int = 0, listed: Sequence[Architecture] | None = None
    ) -> ArchitectureSampler:
        """Make the sampler of a study."""
        chosen = self.sampler if isinstance(self.sampler, str) else self.sampler(seed=seed)
        return make_sampler(chosen, space, population=_POPULATION, seed=seed, listed=listed)

    @property
    def follows_from_trials(self) -> bool:
        """True if it keeps nothing to itself; a class of Optuna samplers has a generator of its own."""
        return isinstance(self.sampler, str) and hasattr(SAMPLERS[self.sampler], "make")


def check_sampler(sampler: str | Callable[..., BaseSampler], *, trials: int = TRIALS) -> None:
    """Check all that a search relies on, in studies over small spaces with conditional genes.

    Optuna's own suites (`optuna.testing.pytest_samplers`) say whether an Optuna sampler behaves as such; this
    one says whether a search of dynnas can use it.

    Args:
        sampler: a registered name, or what makes an Optuna sampler from a seed, such as its class.
        trials: of each study; more where the sampler starts with many random ones.

    Raises:
        AssertionError: the sampler breaks the contract; says how.
    """
    subject = SamplerSubject(sampler, trials)
    for check in sampler_checks():
        check(subject)


def sampler_checks() -> Iterator[Callable[[SamplerSubject], None]]:
    """Yield the checks one by one, for parametrised tests."""
    yield check_architectures
    yield check_small_space
    yield check_seed
    yield check_resuming
    yield check_failures
    yield check_limits
    yield check_several_at_once
    yield check_trials_of_others
    yield check_objectives
    yield check_listed


def check_architectures(subject: SamplerSubject) -> None:
    """Check that proposals are architectures of the space, with active genes only, and none comes twice."""
    study = _study(subject, CONDITIONAL)
    found = _searched(study, CONDITIONAL, subject.trials)
    assert found, f"sampler {subject}: it proposes nothing"
    _check_new(subject, found)
    choices = {gene.name for gene in CONDITIONAL.choices}
    for trial, architecture in zip(study.trials, found, strict=True):
        expected = choices & {*architecture}
        assert {*trial.params} == expected, (
            f"sampler {subject}: a trial has the parameters {sorted(trial.params)}, active are "
            f"{sorted(expected)}"
        )


def check_small_space(subject: SamplerSubject) -> None:
    """Check that all of a small space is proposed, and then that there is an end."""
    study = _study(subject, SMALL)
    found = _searched(study, SMALL, 2 * SMALL.size)
    _check_new(subject, found)
    if _sampler(study).stand(study) == "ended":
        return
    assert len(found) == SMALL.size, (
        f"sampler {subject}: of {SMALL.size} architectures it proposes {len(found)} and says that it has more"
    )
    try:
        suggest(study.ask(), SMALL)
    except StudyError:
        return
    raise AssertionError(f"sampler {subject}: it goes on where all architectures have been proposed")


def check_seed(subject: SamplerSubject) -> None:
    """Check that the seed and the results decide what is proposed."""
    first, again = (
        _searched(_study(subject, CONDITIONAL, seed=1), CONDITIONAL, subject.trials) for _ in "ab"
    )
    assert first == again, (
        f"sampler {subject}: with the same seed and results, proposal {_differs(first, again)} is another "
        "one; draw by a generator that is made from the seed"
    )


def check_resuming(subject: SamplerSubject) -> None:
    """Check that a study goes on in another process: as it would have gone where a name is given.

    An Optuna sampler that was handed over as an object or a class has a generator of its own, which begins
    again; but it proposes nothing twice.
    """
    storage = InMemoryStorage()
    resumed: list[Architecture] = []
    for trials in (subject.trials // 3, subject.trials // 2, subject.trials):
        study = _study(subject, CONDITIONAL, storage=storage)
        resumed += _searched(study, CONDITIONAL, trials)
    _check_new(subject, resumed)
    straight = _searched(_study(subject, CONDITIONAL), CONDITIONAL, subject.trials)
    if subject.follows_from_trials:
        assert resumed == straight, (
            f"sampler {subject}: proposal {_differs(straight, resumed)} of a resumed study is another one; "
            "keep nothing that does not follow from the trials, the seed and their number"
        )
    assert len(resumed) == len(straight), (
        f"sampler {subject}: {len(straight)} proposals, and {len(resumed)} where it was resumed"
    )


def check_failures(subject: SamplerSubject) -> None:
    """Check that a search goes on after trials that fail, from the first on, and does not repeat them."""
    for failing in (lambda number: number % 3 == 2, lambda number: number < 3):
        study = _study(subject, CONDITIONAL)
        _check_new(subject, _searched(study, CONDITIONAL, subject.trials, failing=failing))


def check_limits(subject: SamplerSubject) -> None:
    """Check that a search goes on where most trials break a limit, or all of them."""
    for limit in (3.0, 0.5):
        study = _study(subject, CONDITIONAL)
        _check_new(subject, _searched(study, CONDITIONAL, subject.trials, limit=limit))


def check_several_at_once(subject: SamplerSubject) -> None:
    """Check that trials which are under way at the same time are about different architectures."""
    study = _study(subject, CONDITIONAL)
    _check_new(subject, _searched(study, CONDITIONAL, subject.trials, at_once=4))


def check_trials_of_others(subject: SamplerSubject) -> None:
    """Check that trials which others have added are known, and those about something else do no harm."""
    study = _study(subject, CONDITIONAL)
    added = [*islice(enumerate_all(CONDITIONAL), 0, 30, 3)]
    for architecture in added:
        params = {
            gene.name: gene.labels[gene.values.index(architecture[gene.name])]
            for gene in CONDITIONAL.choices
            if gene.name in architecture
        }
        distributions = {
            gene.name: distribution_of(gene) for gene in CONDITIONAL.choices if gene.name in params
        }
        study.add_trial(
            create_trial(
                params=params, distributions=distributions, values=_values(CONDITIONAL, architecture, 2)
            )
        )
    study.add_trial(create_trial(values=[0.0, 0.0]))
    study.add_trial(create_trial(state=TrialState.FAIL))
    found = _searched(study, CONDITIONAL, len(added) + 2 + subject.trials // 2)
    assert found or _sampler(study).stand(study) == "ended", f"sampler {subject}: it proposes nothing"
    _check_new(subject, [*added, *found])


def check_objectives(subject: SamplerSubject) -> None:
    """Check that a study of one or three objectives is searched, or refused with a reason."""
    for objectives in (1, 3):
        study = _study(subject, CONDITIONAL, objectives=objectives)
        try:
            _check_new(subject, _searched(study, CONDITIONAL, subject.trials // 2))
        except StudyError as error:
            if "objective" not in str(error):
                raise AssertionError(
                    f"sampler {subject}: {objectives} objectives are refused, but not for that: {error}"
                ) from error


def check_listed(subject: SamplerSubject) -> None:
    """Check that of a list of architectures nothing else is proposed."""
    listed = [*enumerate_all(CONDITIONAL)][::7]
    study = _study(subject, CONDITIONAL, listed=listed)
    found = _searched(study, CONDITIONAL, min(subject.trials, len(listed)))
    _check_new(subject, found)
    assert {*found} <= {*listed}, f"sampler {subject}: it proposes what is not on the list"


def _study(
    subject: SamplerSubject,
    space: Space,
    *,
    seed: int = 0,
    objectives: int = 2,
    storage: BaseStorage | None = None,
    listed: Sequence[Architecture] | None = None,
) -> optuna.Study:
    with quiet_optuna(optuna.logging.ERROR):
        return optuna.create_study(
            storage=storage,
            study_name="check" if storage else None,
            load_if_exists=storage is not None,
            directions=["minimize"] * objectives,
            sampler=subject.make(space, seed, listed),
        )


def _sampler(study: optuna.Study) -> ArchitectureSampler:
    assert isinstance(study.sampler, ArchitectureSampler)
    return study.sampler


def _searched(
    study: optuna.Study,
    space: Space,
    trials: int,
    *,
    failing: Callable[[int], bool] = lambda number: False,
    limit: float | None = None,
    at_once: int = 1,
) -> list[Architecture]:
    """Return what is proposed until the study has all trials, or the sampler or the space ends.

    Args:
        study: goes on from its trials.
        space: of the study.
        trials: in the end.
        failing: whether the trial of a number fails.
        limit: of the cost, the last objective.
        at_once: how many trials are under way together.
    """
    found: list[Architecture] = []
    running: list[tuple[optuna.Trial, Architecture]] = []
    with quiet_optuna(optuna.logging.ERROR):
        while True:
            stand = _sampler(study).stand(study)
            taken = len(study.get_trials(deepcopy=False))
            more = stand == "ready" and taken < trials and len(found) < space.size
            if more and len(running) < at_once:
                trial, architecture = _asked(study, space)
                found.append(architecture)
                running.append((trial, architecture))
            elif running:
                _tell(study, space, *running.pop(0), failing, limit)
            else:
                return found


def _asked(study: optuna.Study, space: Space) -> tuple[optuna.Trial, Architecture]:
    try:
        trial = study.ask()
        return trial, suggest(trial, space)
    except SpaceError as error:
        raise AssertionError(f"a sampler proposes what is no architecture of the space: {error}") from error


def _tell(
    study: optuna.Study,
    space: Space,
    trial: optuna.Trial,
    architecture: Architecture,
    failing: Callable[[int], bool],
    limit: float | None,
) -> None:
    if failing(trial.number):
        study.tell(trial, state=TrialState.FAIL)
        return
    values = _values(space, architecture, len(study.directions))
    if limit is not None:
        trial.set_constraint("cost", values[-1] - limit)
    study.tell(trial, values)


def _values(space: Space, architecture: Architecture, objectives: int) -> list[float]:
    """Return an error that falls with every gene, a second loss, and a cost that grows: the last of them."""
    places = [space.gene(name).values.index(value) for name, value in architecture.items()]
    cost = 1.0 + sum(places)
    return [10 / cost + 0.1 * places[0], 0.1 * places[-1] + 1 / cost, cost][-objectives:]


def _check_new(subject: SamplerSubject, found: Sequence[Architecture]) -> None:
    seen: set[str] = set()
    for architecture in found:
        assert architecture.key not in seen, f"sampler {subject}: it proposes {dict(architecture)} twice"
        seen.add(architecture.key)


def _differs(these: Sequence[Architecture], those: Sequence[Architecture]) -> int:
    """Return the number of the first proposal that differs, from 1."""
    pairs = zip(these, those, strict=False)
    same = next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(these), len(those)))
    return same + 1
