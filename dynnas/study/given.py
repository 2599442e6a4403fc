"""The objects that the folder of a study cannot keep, and the knowledge with which a study begins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from dynnas.errors import DataError, SpaceError, StudyError
from dynnas.metric import Metric
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import Goal
from dynnas.samplers.make import check_learns
from dynnas.samplers.trials import RESERVED, architecture_of
from dynnas.search.storage.studies import load_trials
from dynnas.settings.settings import DataSettings, SearchSettings
from dynnas.space.architecture import Architecture, Value
from dynnas.space.space import Space
from dynnas.study.folder import StudyFolder, find_study

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from dynnas.data.dataset import Dataset
    from dynnas.metrics.measurement import Measurement


OBJECTS = "<objects>"
"""The `data.source` of a study whose data were given as objects."""

_NAME = re.compile(r"(?:^|\s)([^\s=]+)=")
"""A name before its value."""


@dataclass(frozen=True)
class Given:
    """The objects of one study.

    Attributes:
        space: if it is not that of a file.
        dataset: if the settings do not name it.
        storage: of the trials, if they lie at no URL.
        measurements: that are not registered, for the directions of their metrics.
    """

    space: Space | None = None
    dataset: Dataset | None = None
    storage: BaseStorage | None = None
    measurements: tuple[Measurement, ...] = ()


def data_of(settings: DataSettings, folder: Path) -> Dataset:
    """Read the data of the study in a folder.

    Raises:
        DataError: they cannot be read; it says what to do if they have moved.
    """
    from dynnas.data.load import load_data  # needs torch, which a study of a table does not

    try:
        return load_data(settings)
    except DataError as error:
        raise DataError(
            f"{folder}: the data of the study cannot be read ({error}); if they have moved, run the search "
            "again with their new place as data.source: equal images are accepted"
        ) from error


def goal_of(search: SearchSettings, metrics: Sequence[Metric], measurements: Sequence[Measurement]) -> Goal:
    """Return the objectives and limits of a search.

    Args:
        search: its settings.
        metrics: of the task, which count beside those that dynnas knows.
        measurements: those that are not registered; their metrics count too.

    Raises:
        StudyError: an objective or a limit is no metric, or a metric has a name that trials need.
    """
    given = [metric for measurement in measurements for metric in measurement.gives]
    if clash := RESERVED.intersection(metric.name for metric in [*metrics, *given]):
        raise StudyError(
            f"a metric is called {min(clash)!r}, a name that trials need; call it something else than "
            f"{', '.join(sorted(RESERVED))}"
        )
    return Goal.of(search.objectives, search.constraints, [*metrics, *given])


@dataclass(frozen=True)
class KnownBefore:
    """The architectures that a search proposes first, and the results that its sampler begins with."""

    starts: tuple[Architecture, ...] = ()
    earlier: tuple[ScoredArchitecture, ...] = ()

    @staticmethod
    def of(
        space: Space,
        starts: Sequence[Mapping[str, Value] | str],
        earlier: Sequence[ScoredArchitecture | str],
        sampler: str | BaseSampler,
        own: StudyFolder | None = None,
    ) -> KnownBefore:
        """Return what is given, with what names stand for.

        Args:
            space: what is searched. Architectures of other studies that are not of it are left out.
            starts: architectures, also as `width=32 op=dynamic`; or whose front: a study, by its folder or by
                name beside `own`, or a front.json that one has written.
            earlier: results, or such names.
            sampler: is to learn from earlier results, if there are any.
            own: the study that is searched, which cannot begin with itself; None for one without a folder.

        Raises:
            StudyError: there is no such study or file, nothing in it is of `space`, or the sampler does not
                learn from earlier results.
            SpaceError: an architecture is not of `space`.
        """
        studies = own.path.parent if own else Path("studies")
        first: list[Architecture] = []
        for one in starts:
            if not isinstance(one, str):
                first.append(space.architecture(one))
            elif "=" in one:
                first.append(parse_architecture(space, one))
            else:
                front = _front(one, studies, own)
                first += [member.architecture for member in _of_space(space, front, f"starts: {one}")]
        results: list[ScoredArchitecture] = []
        for each in earlier:
            if isinstance(each, str):
                results += _of_space(space, _results(each, space, studies, own), f"earlier: {each}")
            else:
                results.append(each)
        if results:
            check_learns(sampler)
        return KnownBefore(tuple(first), tuple(results))

    def with_settings(
        self,
        space: Space,
        search: SearchSettings,
        sampler: BaseSampler | None,
        own: StudyFolder | None = None,
    ) -> KnownBefore:
        """Return this behind what the settings of a search name; arguments and errors are those of `of`."""
        starts: tuple[Mapping[str, Value] | str, ...] = (*search.starts, *self.starts)
        earlier: tuple[ScoredArchitecture | str, ...] = (*search.earlier, *self.earlier)
        return KnownBefore.of(space, starts, earlier, sampler or search.sampler, own)


def parse_architecture(space: Space, text: str) -> Architecture:
    """Return the architecture whose choices are written as a front prints them: `width=32 op=dynamic`.

    A value may hold spaces, as `gate=skip 0.5` or `kernel=(3, 5)`: it ends before the next name.

    Raises:
        SpaceError: no such gene or value, or a choice is missing.
    """
    before, *words = _NAME.split(text)
    values: dict[str, Value] = {}
    for word in before.split():  # it names no choice
        space.gene(word)
    for name, written in zip(words[::2], words[1::2], strict=True):
        gene = space.gene(name)
        values[name] = next((value for value in gene.values if str(value) == written.strip()), written)
    return space.architecture(values)


def _front(name: str, studies: Path, own: StudyFolder | None) -> Iterable[ScoredArchitecture]:
    if name.endswith(".json"):
        return Front.load(Path(name))
    place = _folder(name, studies, own)
    if place.front.exists():
        return Front.load(place.front)
    raise StudyError(f"starts: {name} has no finished front yet; finish that study, or leave it out")


def _results(
    name: str, space: Space, studies: Path, own: StudyFolder | None
) -> Sequence[ScoredArchitecture | None]:
    """Return the members of a front's file, or all evaluated trials of a study; None for one of elsewhere."""
    if name.endswith(".json"):
        return Front.load(Path(name))
    place = _folder(name, studies, own)
    record = place.read_record()
    trials = load_trials(place.url(record), record.name)
    found: list[ScoredArchitecture | None] = []
    for trial in trials.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)) if trials else ():
        metrics = {key: value for key, value in trial.user_attrs.items() if key not in RESERVED}
        architecture = architecture_of(trial, space)
        found.append(ScoredArchitecture(architecture, metrics, trial.number) if architecture else None)
    return found


def _folder(name: str, studies: Path, own: StudyFolder | None) -> StudyFolder:
    place = find_study(name, studies)
    if own is not None and place.path.resolve() == own.path.resolve():
        raise StudyError(f"a study cannot begin with itself: {name} is the study that is searched")
    return place


def _of_space(
    space: Space, found: Iterable[ScoredArchitecture | None], where: str
) -> list[ScoredArchitecture]:
    """Return those whose architectures are of `space`.

    Raises:
        StudyError: none is.
    """
    seen, kept = 0, []
    for one in found:
        seen += 1
        architecture = _as_of(space, one.architecture) if one else None
        if one and architecture:
            kept.append(ScoredArchitecture(architecture, one.metrics, one.trial))
    if not kept:
        raise StudyError(f"{where}: none of its {seen} architectures is of the space {space.name!r}")
    return kept


def _as_of(space: Space, values: Mapping[str, Value]) -> Architecture | None:
    try:
        return space.architecture(values)
    except SpaceError:
        return None
