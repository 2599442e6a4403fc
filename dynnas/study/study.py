"""A study on disk, opened for reading: its front, its candidates, and the networks behind them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dynnas.errors import StudyError
from dynnas.space.space import Space
from dynnas.study.folder import find_study
from dynnas.study.given import OBJECTS, Given, data_of
from dynnas.study.records.cascades import PICK, Cascaded
from dynnas.study.records.compressed import Compressed
from dynnas.study.records.trained import Trained
from dynnas.study.results import StudyResults

# What needs torch is imported where it is used: a study of a table has no networks.
if TYPE_CHECKING:
    from optuna.storages import BaseStorage
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
    return Study(find_study(name_or_path, studies), Given(space, data, storage, tuple(measurements)))


@dataclass(frozen=True)
class Study(StudyResults):
    """A study as `run_study` left it in a folder. Everything is read when it is first asked for.

    These are its networks and what they are made of; `StudyResults` has the rest.
    """

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

    @cached_property
    def dataset(self) -> Dataset:
        """The images, which are those that the study was made with.

        Raises:
            StudyError: it is a study of a table, or the data have changed since; it says what differs.
            DataError: the data cannot be read.
        """
        if self.space.table:
            raise StudyError(f"{self.name}: a study of a table has no images and no networks")

        found = self.given.dataset
        if found is None and self.settings.data.source == OBJECTS:
            raise StudyError(
                f"{self.name}: its data were no files but objects; open it by open_study(..., data=data)"
            )
        found = found or data_of(self.settings.data, self.folder.path)
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

    def cascade_network(self, cascaded: Cascaded) -> Cascade:
        """Return a cascade as one module, in evaluation mode, with the weights that it was scored with.

        Raises:
            StudyError: a network or a training is no longer there.
        """
        from dynnas.runtimes.chaining import Answering, chain

        made = [
            self.weights_of(key, name) for key, name in zip(cascaded.networks, cascaded.weights, strict=True)
        ]
        networks = [
            self.trained_network(each) if each else self.network(key)
            for key, each in zip(cascaded.networks, made, strict=True)
        ]
        answering = Answering(self.dataset.task, cascaded.shape)
        return chain(networks, cascaded.thresholds, cascaded.networks, self.dataset.size, answering)

    def trained_network(self, trained: Trained | Compressed) -> Network:
        """Return the network that a training or a pass ended with, in evaluation mode.

        Raises:
            StudyError: the pass made a graph.
            TrainingError: its file is missing or damaged.
        """
        if trained.file is None or trained.weights_digest is None:
            raise StudyError(f"{trained.name}: is no network, but a graph")

        from dynnas.training.weights.files import load_network

        build = partial(self._shaped, trained) if self.space.model is not None else None
        return load_network(self.folder.path / trained.file, trained.weights_digest, build)

    def _shaped(self, trained: Trained | Compressed) -> Network:
        """Return a network of one's own class of the shape that a training or a pass ended with."""
        if not isinstance(trained, Compressed):
            return self._built(trained.key, self.space)
        source = self.weights_of(trained.key, trained.source)
        network = self._shaped(source) if source else self._built(trained.key, self.space)
        if "channels" not in trained.details:
            return network
        from dynnas.runtimes.plain import PlainNetwork
        from dynnas.supernet.prunable import PrunableModule

        plain, left = cast("PlainNetwork", network), trained.details["channels"]
        found = PrunableModule.of(plain.module.eval(), plain.config.shape)
        module = found.pruned({name: after for name, (_, after) in left.items()})
        return cast("Network", PlainNetwork(module, plain.config.shape, plain.config.classes))

    def fresh_network(self, key: str, seed: int) -> Network:
        """Return a network of one's own class, or of a trained network, with weights drawn from `seed`.

        Raises:
            StudyError: there is no such key.
        """
        import torch

        from dynnas.supernet.conversion.network import TrainedNetwork

        space = self.space
        if isinstance(space.model, TrainedNetwork):
            space = replace(space, model=space.model.fresh(seed))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self._built(key, space)

    def _built(self, key: str, space: Space) -> Network:
        """Return a network of one's own class as its space builds it."""
        from dynnas.runtimes.plain import PlainNetwork

        data = self.dataset
        architecture = self.architecture(key)
        space = space.of_data(data.shape, data.task)
        module, shape = space.build(architecture), space.image_shape(architecture, data.shape)
        return cast("Network", PlainNetwork(module, shape, data.task.outputs))

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
