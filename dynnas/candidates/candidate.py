"""One architecture of a supernet on its way to a number: config, network, statistics and what is timed."""

from __future__ import annotations

import copy
from collections import OrderedDict
from functools import cached_property
from typing import Any, cast
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from dynnas.candidates.statistics import (
    Statistics,
    StatisticsStore,
    pack_statistics,
    restore_statistics,
    statistics_of,
    unpack_statistics,
)
from dynnas.data.dataset import Dataset
from dynnas.documents import provenance_digest
from dynnas.latency.dependent import follows_torch, representative, ways_of
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner, load_runner
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.cost import Cost
from dynnas.nn.networks.network import Network
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import compile_network
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import TargetSettings, TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.space.gene import QUANTIZE, of_network
from dynnas.supernet.blank import blank
from dynnas.supernet.supernet import Supernet
from dynnas.training.batchnorm.calibrate import calibrate

KEPT = 32
"""Number of the latest candidates that keep their networks, whether or not anyone else holds them."""

MOST_TIMED = 64
"""Maximum number of single images on which a network is timed in a search; each is run at least six times."""

INT8_IMAGES = 128
"""Training images whose activations set the ranges of int8."""


class Extractor:
    """Makes the candidates of one supernet; an architecture is the same candidate for as long as it lives.

    It can be pickled; a copy in another process has candidates of its own, and no `store`.

    Args:
        supernet: the trained weights.
        dataset: the data that set batch-norm statistics and that networks are timed on.
        train: says with how many images, drawn by which seed, networks are calibrated.
        target: says for what networks are compiled; the defaults if None.
        store: keeps statistics between runs; None keeps them in memory only.
    """

    def __init__(
        self,
        supernet: Supernet,
        dataset: Dataset,
        train: TrainSettings,
        target: TargetSettings | None = None,
        store: StatisticsStore | None = None,
    ) -> None:
        self.supernet, self.dataset, self.train = supernet, dataset, train
        self.target, self.store = target or TargetSettings(), store
        self._forget()

    def _forget(self) -> None:
        self._alive: WeakValueDictionary[str, Candidate] = WeakValueDictionary()
        self._latest: OrderedDict[str, Candidate] = OrderedDict()

    def __getstate__(self) -> dict[str, Any]:
        made = {"_alive", "_latest"}
        return {name: value for name, value in self.__dict__.items() if name not in made} | {"store": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def candidate(self, architecture: Architecture, open_gates: bool = False) -> Candidate:
        """Return the candidate of `architecture`; with `open_gates` its network has no gates."""
        key = f"{architecture.key} with open gates" if open_gates else architecture.key
        found = self._alive.get(key)
        if found is None:
            found = self._alive[key] = Candidate(self, architecture, key, open_gates)
        self._latest[key] = found
        self._latest.move_to_end(key)
        for other in self._latest.values():
            if other is not found:
                other.release()
        while len(self._latest) > KEPT:
            self._latest.popitem(last=False)
        return found

    @cached_property
    def weights_digest(self) -> str:
        """Return the digest of the supernet's weights, which must not change after this is asked for."""
        return self.supernet.digest()

    @property
    def calibration(self) -> str:
        """Return in words how the statistics are computed."""
        return f"{self.train.calibration_images} images, seed {self.train.seed}"

    @cached_property
    def provenance(self) -> str:
        """Return the digest of all that statistics of a candidate depend on, except its architecture."""
        return provenance_digest(
            {"weights": self.weights_digest, "data": self.dataset.digest, "calibration": self.calibration}
        )


class Candidate:
    """An architecture with all that is made of it; each part is made when it is first asked for, and kept.

    Candidates come from `Extractor.candidate`. Everybody who asks for a part gets the same object, so nobody
    may change it: `copy` gives a network to train or to rebuild.

    Attributes:
        architecture: the values of its genes.
        key: names the network among those of its supernet.
    """

    def __init__(self, source: Extractor, architecture: Architecture, key: str, open_gates: bool) -> None:
        self.architecture, self.key = architecture, key
        self._source, self._open_gates = source, open_gates
        # A network in int8 has the statistics that it has in float32.
        own = Architecture(tuple(of_network(architecture).items()))
        self._statistics_key = own.key + key.removeprefix(architecture.key)
        self._statistics: Statistics | None = None
        self._ready = False
        self._workload: Workload | None = None
        self._artifact: Artifact | None = None

    @property
    def dataset(self) -> Dataset:
        """Return the data of the study, in their three splits."""
        return self._source.dataset

    @property
    def target(self) -> TargetSettings:
        """Return the target that the network is compiled for."""
        return self._source.target

    @property
    def own_class(self) -> bool:
        """Return whether the network is of the user's own class, not a staged network of a space file."""
        return self._source.supernet.space.model is not None

    @property
    def quantized(self) -> bool:
        """Return whether the network is quantised to int8 when it is compiled."""
        return self.architecture.get(QUANTIZE, "none") == "int8"

    @property
    def timed_calibrated(self) -> bool:
        """Return whether the network must be calibrated before it is timed.

        It must be where its work depends on its images, or its values set the ranges of int8.
        """
        return bool(self.config.branches) or self.quantized

    @cached_property
    def config(self) -> NetworkConfig:
        """Return the network's config; for a user's own class, its images and where it branches."""
        if self.own_class:
            return self.network.config
        config: NetworkConfig = self._source.supernet.build.config(self.architecture, self._open_gates)
        return config

    @property
    def _image_shape(self) -> tuple[int, int, int]:
        space = self._source.supernet.space
        return space.image_shape(self.architecture, self.dataset.shape)

    @cached_property
    def network(self) -> Network:
        """Return the extracted network; before `calibrated` is asked for, it has no batch-norm statistics.

        One of the user's own class stands in a `PlainNetwork`, which is used like a staged one.
        """
        supernet = self._source.supernet
        if self.own_class:
            module = supernet.extract(self.architecture).eval()
            return cast(Network, PlainNetwork(module, self._image_shape, self.dataset.task.outputs).eval())
        network: Network = supernet.extract(self.architecture, open_gates=self._open_gates).eval()
        return network

    @cached_property
    def cost(self) -> Cost:
        """The cost of a network of one's own class, counted in a run of one without trained weights."""
        space = self._source.supernet.space
        module = blank(lambda: space.build(self.architecture))
        if any(parameter.is_meta for parameter in module.parameters()):
            module = module.to_empty(device="cpu")
        return cost_of(PlainNetwork(module.eval(), self._image_shape, self.dataset.task.outputs))

    @property
    def statistics(self) -> Statistics | None:
        """Return the batch-norm statistics as far as they are known: here, or in the store."""
        store = self._source.store
        if self._statistics is None and store is not None:
            packed = store.read_statistics(self._statistics_key, self._source.provenance)
            self._statistics = unpack_statistics(packed) if packed else None
        return self._statistics

    def adopt(self, statistics: Statistics) -> None:
        """Take the statistics that another process has computed for this candidate."""
        if self.statistics is None:
            self._keep(statistics)

    def _keep(self, statistics: Statistics) -> None:
        self._statistics = statistics
        if self._source.store is not None:
            packed = pack_statistics(statistics)
            self._source.store.write_statistics(self._statistics_key, self._source.provenance, packed)

    @property
    def calibrated(self) -> Network:
        """Return the network with its batch-norm statistics, in evaluation mode: the one that ships."""
        if not self._ready:
            known = self.statistics
            if known is None:
                source, train = self._source, self._source.train
                images = source.dataset.calibration_images(train.calibration_images, train.seed)
                calibrate(self.network, resize(images, self.config.shape[1:]))
                self._keep(statistics_of(self.network))
            else:
                restore_statistics(self.network, known)
                self.network.eval()
            self._ready = True
            self.release()
        return self.network

    def copy(self) -> Network:
        """Return a calibrated network that the caller may change."""
        return copy.deepcopy(self.calibrated)

    @property
    def artifact(self) -> Artifact:
        """Return the calibrated network compiled for the target.

        It is the artifact that is timed, sent to a device, and shipped.

        Raises:
            TargetError: the network cannot be compiled for the target.
        """
        return self._compiled(self.calibrated)

    def _compiled(self, network: Network) -> Artifact:
        if self._artifact is None:
            self._artifact = compile_network(network, self.target, int8_images=self._int8_images)
        return self._artifact

    @property
    def _int8_images(self) -> Tensor | None:
        return int8_images(self.network, self.dataset, self._source.train) if self.quantized else None

    @property
    def workload(self) -> Workload:
        """Return the benchmark: the compiled network, with as many real inputs as its work depends on them.

        A network that runs the same for every input is not calibrated for it: its time does not depend on
        what is in its statistics.

        Raises:
            TargetError: the network cannot be compiled for the target.
        """
        if self._workload is None:
            network = self._timed
            runner = load_runner(network, self._compiled(network), self.target)
            inputs = inputs_of(network, self.dataset, self.target, self.quantized)
            self._workload = Workload(runner, *inputs)
        return self._workload

    def workload_on(self, target: TargetSettings) -> Workload:
        """Return the benchmark of the same network on another target; it is compiled for this call.

        Raises:
            TargetError: the network cannot be compiled for the target.
        """
        network = self._timed
        artifact = compile_network(network, target, int8_images=self._int8_images)
        inputs = inputs_of(network, self.dataset, target, self.quantized)
        return Workload(load_runner(network, artifact, target), *inputs)

    @property
    def _timed(self) -> Network:
        return self.calibrated if self.timed_calibrated else self.network

    def release(self) -> None:
        """Drop the compiled network; it is made again when it is next needed."""
        self._workload = self._artifact = None


def workload_of(network: Network, dataset: Dataset, target: TargetSettings) -> Workload:
    """Compile `network` for `target`, with search images to run: many if its work depends on them.

    Args:
        network: in evaluation mode; calibrated if its work depends on its images.
    """
    return Workload(build_runner(network, target), *inputs_of(network, dataset, target))


def int8_images(network: Network, dataset: Dataset, train: TrainSettings) -> Tensor:
    """Return the training images (N, channels, H, W) by which `network` is quantised, prepared for it."""
    images = dataset.calibration_images(min(INT8_IMAGES, train.calibration_images), train.seed)
    return resize(images, network.config.shape[1:]).cpu()


def inputs_of(
    network: Network, dataset: Dataset, target: TargetSettings, quantized: bool = False
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Return search images as `network` is timed on them, and which of them are alike.

    Of single images that are many, those are taken that stand for the ways of all.

    Args:
        network: calibrated, in eval mode, if its work depends on its images.
        dataset: of the images. target: where it is timed.
        quantized: whether it runs there in int8, which may send an image another way.

    Returns:
        Images (batch, channels, R, R) float32 for each call. Numbers (calls,) int of groups of images that
        take about the same path; None for batches, and where images may take other paths than in float32.
    """
    # There are no fewer images than fill a call; the last call is filled with the first images.
    batch = target.batch
    calls = -(-(target.images if network.config.branches else 1) // batch)
    chosen = torch.arange(calls * batch) % len(dataset.search.images)
    images = prepare_images(network, dataset, dataset.search.images[chosen])
    alike = None
    if batch == 1 and calls > 1:
        ways = ways_of(network, images)
        numbers = representative(ways.paths, MOST_TIMED)
        images = images[numbers]
        if follows_torch(target, quantized):
            alike = ways.alike(numbers)
    return np.split(images.cpu().numpy(), len(images) // batch), alike


def calibrated_network(
    supernet: Supernet,
    architecture: Architecture,
    dataset: Dataset,
    train: TrainSettings,
    open_gates: bool = False,
) -> Network:
    """Return one calibrated network of `supernet`, where no other part of its candidate is needed.

    With `open_gates` it has none of its gates.
    """
    return Extractor(supernet, dataset, train).candidate(architecture, open_gates).calibrated
