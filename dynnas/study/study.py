"""A study on disk, opened for reading: its front, its candidates, and the networks behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dynnas.errors import StudyError, require
from dynnas.language.parser import load_space
from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.hypervolume import HypervolumeCurve, hypervolume_curve
from dynnas.pareto.objectives import Goal
from dynnas.samplers.trials import candidates_of
from dynnas.search.storage.studies import load_trials
from dynnas.settings.settings import Settings
from dynnas.space.architecture import Architecture
from dynnas.space.space import Space
from dynnas.study.audit import Audit
from dynnas.study.cascades import PICK, Cascaded, Cascades, read_cascades
from dynnas.study.compressed import Compressed, read_compressed
from dynnas.study.controls import Comparison, Controls
from dynnas.study.folder import StudyFolder, StudyRecord
from dynnas.study.given import OBJECTS, Given, goal_of
from dynnas.study.latencies import read_latencies
from dynnas.study.shelf import Shelf
from dynnas.study.trained import Trained, read_trained
from dynnas.study.weights import choose_weights

# What needs torch is imported where it is used: a study of a table has no networks.
if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from pandas import DataFrame
    from torch import nn

    from dynnas.candidates.candidate import Candidate, Extractor
    from dynnas.data.dataset import Dataset
    from dynnas.metrics.measurement import Measurement
    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.cascade import Cascade
    from dynnas.runtimes.plain import PlainNetwork
    from dynnas.supernet.supernet import Supernet


def open_study(
    name_or_path: str | Path,
    studies: str | Path = "studies",
    *,
    space: Space | None = None,
    data: Dataset | None = None,
    storage: BaseStorage | None = None,
    measurements: Sequence[Measurement] = (),
) -> Study:
    """Return the study of that name under `studies`, or in the folder of that path; it may still be running.

    Args:
        name_or_path: of the study. studies: the folder that holds studies.
        space, data, storage, measurements: the objects that `dynnas.search` was given, where it was: its
            folder cannot keep them.

    Raises:
        StudyError: there is none.

    Example, after `dynnas search spaces/mobile.yaml`:

        study = dynnas.open_study("mobile")
        study.frame().sort_values("accuracy").tail(3)
        network = study.load("most-accurate")
        network(study.dataset.search.images[:8]).argmax(dim=1)
    """
    places = (Path(studies) / name_or_path, Path(name_or_path))
    folder = next((place for place in places if StudyFolder(place).record.exists()), None)
    if folder is None:
        known = sorted(path.parent.name for path in Path(studies).glob(f"*/{StudyFolder(Path()).record}"))
        listed = f"; {studies} has {', '.join(known)}" if known else f"; {studies} has none"
        raise StudyError(f"no study {str(name_or_path)!r}{listed}; `dynnas search SPACE.yaml` makes one")
    return Study(StudyFolder(folder), Given(space, data, storage, tuple(measurements)))


@dataclass(frozen=True)
class Study:
    """A study as `run_study` left it in a folder. Everything is read when it is first asked for."""

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
    def space(self) -> Space:
        """The space that was searched, with the settings of the last run.

        Raises:
            StudyError: it is not that of a file, and was not given.
        """
        space = self.given.space
        if space is None and not self.folder.space.exists():
            raise StudyError(
                f"{self.name}: its space was no file but an object; open it by open_study(..., space=space)"
            )
        if space is not None and space.digest != self.record.space:
            raise StudyError(f"{self.name}: the space is another one than the study was made with")
        space = space or load_space(self.folder.space)
        return replace(space, name=self.record.space_name, settings=self.settings)

    @property
    def goal(self) -> Goal:
        """Objectives and limits of the last run."""
        search, table = self.settings.search, self.space.table
        if table:
            return Goal.of(table.objectives, {**table.limits, **search.constraints})
        task = self.given.dataset.task if self.given.dataset else None
        return goal_of(search, task, self.given.measurements)

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

    def load(self, pick: str = "knee", weights: str = "best") -> nn.Module:
        """Return a network of the front as a torch module, on the CPU in evaluation mode.

        Of a space file's networks: it takes images (B, channels, H, W) of any size, uint8 or float from 0 to
        1, and gives the logits (B, classes) with which each image leaves. Its last part is the network
        itself, which takes images as `dynnas.runtimes.preprocessing.prepare_images` makes them.

        Of a class of one's own: it is an object of that class, whose `state_dict` loads into
        `MyNet(**front.pick(pick).architecture)` where dynnas is not installed. It takes images as
        `study.dataset.normalise` makes them.

        Args:
            pick: as `Front.pick` takes it: knee, fastest, most-accurate, a limit, or the start of a key; or a
                cascade, as `cascade:1`.
            weights: as `weights_of` takes them; those of a cascade are its own.

        Raises:
            StudyError: the front has no such member, or it no such weights.
            TrainingError: the supernet is not trained.
        """
        from dynnas.runtimes.preprocessing import ready

        if pick.startswith(PICK):
            return ready(self.cascade_network(self.cascades.pick(pick)), self.dataset)
        key = self.front.pick(pick).key
        trained = self.weights_of(key, weights)
        network = self.trained_network(trained) if trained else self.network(key)
        if self.space.model is not None:
            return cast("PlainNetwork", network).module.cpu()
        return ready(network, self.dataset)

    @property
    def growth(self) -> HypervolumeCurve:
        """Return the growth of the front's hypervolume; its reference is the worst of all candidates."""
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

    @cached_property
    def dataset(self) -> Dataset:
        """The images, which are those that the study was made with.

        Raises:
            StudyError: it is a study of a table, or the data have changed since; it says what differs.
            DataError: the data cannot be read.
        """
        if self.space.table:
            raise StudyError(f"{self.name}: a study of a table has no images and no networks")

        from dynnas.data.load import load_data

        found = self.given.dataset
        if found is None and self.settings.data.source == OBJECTS:
            raise StudyError(
                f"{self.name}: its data were no files but objects; open it by open_study(..., data=data)"
            )
        found = found or load_data(self.settings.data)
        self.record.check_data(found.digest, found.task.names, found.split_sizes, self.folder.path)
        return found

    @cached_property
    def supernet(self) -> Supernet:
        """The trained supernet.

        Raises:
            TrainingError: its training has not finished.
        """
        dataset = self.dataset

        from dynnas.training.checkpoint import load_supernet

        space, outputs = self.space.of_data(dataset.shape, dataset.task), dataset.task.outputs
        return load_supernet(self.folder.supernet, space, dataset.channels, outputs, self.settings.train)

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

    def cascade_network(self, cascaded: Cascaded) -> Cascade:
        """Return a cascade as one module, in evaluation mode, with the weights that it was scored with.

        Raises:
            StudyError: a network or a training is no longer there.
        """
        from dynnas.runtimes.cascade import chain

        made = [
            self.weights_of(key, name) for key, name in zip(cascaded.networks, cascaded.weights, strict=True)
        ]
        networks = [
            self.trained_network(each) if each else self.network(key)
            for key, each in zip(cascaded.networks, made, strict=True)
        ]
        return chain(networks, cascaded.thresholds, cascaded.networks, self.dataset.resolution)

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

    def trained_network(self, trained: Trained | Compressed) -> Network:
        """Return the network that a training or a pass ended with, in evaluation mode.

        Raises:
            StudyError: the pass made a graph.
            TrainingError: its file is missing or damaged.
        """
        if trained.file is None or trained.weights_digest is None:
            raise StudyError(f"{trained.name}: is no network, but a graph")

        from dynnas.training.weights_io import load_network

        build = partial(self.fresh_network, trained.key) if self.space.model is not None else None
        return load_network(self.folder.path / trained.file, trained.weights_digest, build)

    def fresh_network(self, key: str) -> Network:
        """Return a network of one's own class with weights as the class draws them."""
        from dynnas.runtimes.plain import PlainNetwork

        data = self.dataset
        architecture = self.architecture(key)
        space = self.space.of_data(data.shape, data.task)
        module, shape = space.build(architecture), space.image_shape(architecture, data.shape)
        return cast("Network", PlainNetwork(module, shape, data.task.outputs))

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

    @cached_property
    def extractor(self) -> Extractor:
        """The extractor of the study's networks, with the batch-norm statistics that its folder keeps.

        Raises:
            TrainingError: the supernet is not trained.
        """
        supernet = self.supernet

        from dynnas.candidates.candidate import Extractor
        from dynnas.search.cache import StatisticsFile

        settings = self.settings
        kept = StatisticsFile(self.folder.cache)
        return Extractor(supernet, self.dataset, settings.train, settings.target, kept)

    def candidate(self, key: str) -> Candidate:
        """Return the candidate of a key, whose parts are made once and shared.

        Raises:
            StudyError: there is no such key.
            TrainingError: the supernet is not trained.
        """
        return self.extractor.candidate(self.architecture(key))

    def network(self, key: str) -> Network:
        """Return a network of a key for the caller alone: extracted, calibrated, in evaluation mode.

        Raises:
            StudyError: there is no such key.
            TrainingError: the supernet is not trained.
        """
        return self.candidate(key).copy()
