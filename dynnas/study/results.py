"""A study without its networks: no torch is needed to read what it holds on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dynnas.errors import StudyError, require
from dynnas.language.parser import load_space
from dynnas.language.study_space import StudySpace
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.hypervolume import HypervolumeCurve, hypervolume_curve
from dynnas.pareto.objectives import Goal
from dynnas.samplers.trials import candidates_of
from dynnas.search.storage.studies import load_trials
from dynnas.settings.settings import Settings
from dynnas.space.architecture import Architecture
from dynnas.study.controls import Comparison, Controls
from dynnas.study.folder import StudyFolder, StudyRecord
from dynnas.study.given import Given, goal_of
from dynnas.study.records.audit import Audit
from dynnas.study.records.cascades import Cascades, read_cascades
from dynnas.study.records.compressed import Compressed, read_compressed
from dynnas.study.records.latencies import read_latencies
from dynnas.study.records.shelf import Shelf
from dynnas.study.records.trained import Trained, read_trained
from dynnas.study.weights import choose_weights

# What needs torch is imported where it is used: a study of a table has no networks.
if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class StudyResults:
    """The results of a study in a folder. Each is read when it is first asked for."""

    folder: StudyFolder
    given: Given = field(default_factory=Given, compare=False, repr=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.path.resolve().name

    @property
    def finished(self) -> bool:
        """Tell whether there is a final front."""
        return self.folder.front.exists()

    @cached_property
    def record(self) -> StudyRecord:
        """The record of what the study was made with."""
        return self.folder.read_record()

    @property
    def settings(self) -> Settings:
        """The settings of its last run, flags included."""
        return self.record.settings

    @property
    def storage(self) -> str:
        """The URL of its trials, for Optuna and its dashboard."""
        return self.folder.url(self.record)

    @cached_property
    def space(self) -> StudySpace:
        """The space that was searched, with the settings of the last run.

        Raises:
            StudyError: it is not that of a file, and was not given.
        """
        space = self.given.space
        if space is None and not self.folder.space.exists():
            raise StudyError(
                f"{self.name}: its space was no file but an object; open it by open_study(..., space=space)"
            )
        made = StudySpace.around(
            space or load_space(self.folder.space), name=self.record.space_name, settings=self.settings
        )
        if space is not None and made.digest != self.record.space:
            raise StudyError(f"{self.name}: the space is another one than the study was made with")
        return made

    @property
    def goal(self) -> Goal:
        """Objectives and limits of the last run."""
        search, table = self.settings.search, self.space.table
        if table:
            return Goal.of(table.objectives, {**table.limits, **search.constraints})
        return goal_of(search, self.record.metrics, self.given.measurements)

    @cached_property
    def front(self) -> Front:
        """The final front, with test accuracies; as long as there is none, that of the trials so far."""
        if self.finished:
            return Front.load(self.folder.front)
        return Front.of(self.candidates, self.goal.objectives)

    @cached_property
    def candidates(self) -> tuple[ScoredArchitecture, ...]:
        """All evaluated candidates within the limits, in the order of their trials."""
        study = load_trials(self.given.storage or self.storage, self.record.name)
        return tuple(candidates_of(study, self.space, self.goal)) if study else ()

    def frame(self) -> DataFrame:
        """Return the candidates as a pandas frame: a row for each, in the order of their trials.

        Columns are `trial`, `key`, `on_front`, every metric by its name (shares from 0 to 1, times in ms) and
        every gene by its name, empty where it does not apply.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        pandas = require("pandas", "tables")
        front = {member.key for member in self.front}
        metrics = dict.fromkeys(name for candidate in self.candidates for name in candidate.metrics)
        genes = [gene.name for gene in self.space.genes]
        rows = [
            [candidate.trial, candidate.key, candidate.key in front]
            + [candidate.metrics.get(name) for name in metrics]
            + [candidate.architecture.get(name) for name in genes]
            for candidate in self.candidates
        ]
        return pandas.DataFrame(rows, columns=["trial", "key", "on_front", *metrics, *genes])

    @property
    def growth(self) -> HypervolumeCurve:
        """Return the growth of the front's hypervolume; see `dynnas.pareto.front.reference_point`."""
        return hypervolume_curve(self.candidates, self.goal.objectives)

    @cached_property
    def controls(self) -> Controls:
        """The controls; empty if they were not asked for or are not there yet."""
        path = self.folder.controls
        return Controls.load(path) if path.exists() else Controls()

    @property
    def shelf(self) -> Shelf:
        """The networks from elsewhere; empty if `dynnas shelf` was not run."""
        path = self.folder.shelf
        return Shelf.load(path) if path.exists() else Shelf()

    @property
    def comparison(self) -> Comparison:
        """Hypervolumes of the search and its controls."""
        front = self.front if self.finished else None
        return Comparison.of(self.candidates, self.controls, self.goal.objectives, front)

    @property
    def trained(self) -> tuple[Trained, ...]:
        """The networks that were trained after the search, in the order of their trainings."""
        return read_trained(self.folder.trained)

    @property
    def compressed(self) -> tuple[Compressed, ...]:
        """The results of compression, in the order in which the passes were run."""
        return read_compressed(self.folder.compressed)

    @property
    def cascades(self) -> Cascades:
        """The chains of its networks that join the front; empty before `dynnas cascade`."""
        return read_cascades(self.folder.cascades)

    @property
    def latencies(self) -> dict[str, Mapping[str, Any]]:
        """The results of `dynnas latency` for members of the front, by key, on today's scale.

        Raises:
            StudyError: a file of them is damaged.
        """
        return read_latencies(self.folder, [member.key for member in self.front])

    @property
    def audit(self) -> Audit | None:
        """Return the audit of the supernet's ranking; None before `dynnas audit`."""
        path = self.folder.audit
        return Audit.load(path) if path.exists() else None

    def weights_of(self, key: str, which: str = "best") -> Trained | Compressed | None:
        """Return the training whose weights the network of a key should have; None for the inherited ones.

        Args:
            key: of a network.
            which: `best` (by search accuracy, of the trained and the inherited weights), `inherited`, or the
                name of a training, or of a pass that made a network, or the start of one.

        Raises:
            StudyError: there is no such training or pass of this network, or several.
        """
        try:
            return choose_weights(key, which, self.trained, self.compressed)
        except StudyError as error:
            raise StudyError(f"{self.name}: {error}") from None

    def architecture(self, key: str) -> Architecture:
        """Return the architecture with that key, or the start of one, among front, candidates and controls.

        Raises:
            StudyError: there is none, or several.
        """
        known: Sequence[ScoredArchitecture] = [
            *self.front,
            *self.candidates,
            *(candidate for group in self.controls.groups.values() for candidate in group),
        ]
        found = {member.key: member.architecture for member in known if member.key.startswith(key)}
        if len(found) != 1:
            raise StudyError(f"{self.name}: {len(found) or 'no'} architectures have the key {key!r}")
        return next(iter(found.values()))
