"""The command `dynnas shelf`: networks from elsewhere, timed and trained as those of a study are."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from dynnas.data.dataset import Dataset
from dynnas.data.importing import imported, is_reference
from dynnas.errors import SpaceError, StudyError, TargetError, require
from dynnas.files import atomic_write
from dynnas.latency.latency import Latency
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.metrics.accuracy import accuracy
from dynnas.progress import Progress
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.plain import PlainNetwork
from dynnas.search.evaluators.supernet import open_meter
from dynnas.search.storage.locks import study_lock
from dynnas.settings.settings import TargetSettings
from dynnas.study.shelf import Shelf, ShelfNetwork
from dynnas.study.study import Study
from dynnas.training.train_network import train_alone
from dynnas.workflows.train import recipe_of

TIMM = "timm:"
"""Prefix of the names of timm's networks."""

_CLASSES, _CHANNELS = ("num_classes", "classes"), ("in_chans", "in_channels")
_NEEDED = "needed is timm:NAME, package.module:function, or a file .onnx"


def shelve(
    study: Study,
    networks: Sequence[str] | Mapping[str, Callable[[], nn.Module]],
    *,
    epochs: int = 0,
    seed: int = 0,
    progress: Progress | None = None,
) -> Shelf:
    """Time networks from elsewhere on the clock of a study, and train them by its recipe if asked to.

    All are timed in the same rounds, with the anchors of the study, on its target. They are kept in the
    study's folder, and stand beside its front in tables, pictures and the report.

    Args:
        study: that was searched.
        networks: names: `timm:resnet18`, `package.module:function` that returns a module, or a file `.onnx`,
            which can only be timed. A function gets the number of classes (`num_classes` or `classes`) and of
            channels (`in_chans` or `in_channels`) if it takes them. Or functions without arguments, by name.
        epochs: of a training from fresh weights by the recipe of the study; 0 to time them only.
        seed: draws weights, and the order of images.
        progress: told of every training.

    Returns:
        The whole shelf of the study, the fastest network first.

    Raises:
        StudyError: another process drives the study.
        SpaceError: a network cannot be made, or cannot be run on the images of the study.
        TargetError: the target cannot run it.
        MissingExtraError: timm or onnxruntime is not installed.
    """
    progress, dataset = progress or Progress(), study.dataset
    makers = networks if isinstance(networks, Mapping) else dict.fromkeys(networks)
    with study_lock(study.folder.lock, f"study {study.folder.path}"):
        meter = open_meter(study.folder.anchors, study.space, dataset)
        made = {name: _made(name, maker, dataset, meter.target, seed) for name, maker in makers.items()}
        scores: dict[str, dict[str, float]] = {name: {} for name in made}
        if epochs:
            for number, (name, each) in enumerate(made.items(), 1):
                title = f"training {name} ({number} of {len(made)})"
                scores[name] = _trained(study, each.network, name, epochs, seed, progress, title)
        workloads = [each.workload(meter.target) for each in made.values()]
        times = meter.measure_jointly(workloads, seed)
        found = [
            _shelved(name, each, scores[name], time, epochs if scores[name] else 0)
            for (name, each), time in zip(made.items(), times, strict=True)
        ]
        shelf = study.shelf.with_networks(found)
        atomic_write(study.folder.shelf, shelf.to_json())
    return shelf


@dataclass(frozen=True)
class _Made:
    """A network from elsewhere: a module, or an ONNX file.

    Attributes:
        shape: (channels, height, width) of its images.
    """

    shape: tuple[int, int, int]
    network: PlainNetwork | None = None
    file: Path | None = None

    def workload(self, target: TargetSettings) -> Workload:
        image = np.random.default_rng(0).normal(size=(target.batch, *self.shape)).astype(np.float32)
        if self.network is not None:
            return Workload(build_runner(self.network, target), [image])
        assert self.file is not None
        return Workload(_session(self.file, target.threads), [image])

    @property
    def metrics(self) -> dict[str, float]:
        if self.network is None:
            return {}
        cost = cost_of(self.network)
        return {"macs": float(cost.macs), "params": float(cost.params)}


def _made(
    name: str, maker: Callable[[], nn.Module] | None, dataset: Dataset, target: TargetSettings, seed: int
) -> _Made:
    if maker is None and Path(name).suffix == ".onnx":
        if target.remote or target.device != "cpu":
            raise TargetError(f"{name}: an ONNX file is timed on this machine's processor alone")
        return _onnx(Path(name), dataset.shape, target)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _module(name, maker, dataset)
    network = PlainNetwork(module.eval(), dataset.shape, dataset.task.outputs).eval()
    images = torch.randn(2, *dataset.shape, generator=torch.Generator().manual_seed(0))
    try:
        with torch.no_grad():
            output = network(images)
    except Exception as error:  # whatever its forward pass may raise
        raise SpaceError(
            f"{name} cannot be run on images {tuple(images.shape)}: {type(error).__name__}: "
            f"{next(iter(str(error).splitlines()), '')}; name a network for the images of the study"
        ) from error
    outputs = dataset.task.outputs
    if outputs and output.dim() == 2 and output.shape[1] != outputs:
        raise SpaceError(
            f"{name} gives {output.shape[1]} outputs, and the data ask for {outputs}; let the function take "
            "num_classes, or give one that makes a network for them"
        )
    return _Made(dataset.shape, network)


def _module(name: str, maker: Callable[[], nn.Module] | None, dataset: Dataset) -> nn.Module:
    if maker is None and name.startswith(TIMM):
        maker = _timms(name.removeprefix(TIMM), dataset)
    elif maker is None and is_reference(name):
        maker = _with_sizes(imported(name, "shelf"), dataset)
    elif maker is None:
        raise SpaceError(f"shelf: {name!r} is no network; {_NEEDED}")
    try:
        module = maker()
    except Exception as error:  # whatever a stranger's function may raise
        raise SpaceError(f"shelf: {name} raised {type(error).__name__}: {error}") from error
    if not isinstance(module, nn.Module):
        raise SpaceError(f"shelf: {name} gives {type(module).__name__}; needed is a torch.nn.Module")
    return module


def _timms(name: str, dataset: Dataset) -> Callable[[], nn.Module]:
    try:
        timm = require("timm", "timm")
    except RuntimeError as error:  # a torchvision that was built for another torch
        raise SpaceError(f"shelf: timm is installed, but cannot be imported ({error})") from error
    if not timm.is_model(name):
        raise SpaceError(f"shelf: timm has no network {name!r}; timm.list_models() names them")
    return lambda: timm.create_model(name, num_classes=dataset.task.outputs, in_chans=dataset.shape[0])


def _with_sizes(function: Any, dataset: Dataset) -> Callable[[], nn.Module]:
    """Return a function that gives another one the numbers of classes and channels, if it takes them."""
    if not callable(function):
        return lambda: function
    try:
        taken: Collection[str] = inspect.signature(function).parameters
    except ValueError:  # some of Python's own do not say what they take
        taken = ()
    options = {name: dataset.task.outputs for name in _CLASSES if name in taken}
    options |= {name: dataset.shape[0] for name in _CHANNELS if name in taken}
    return lambda: function(**options)


def _onnx(file: Path, shape: tuple[int, int, int], target: TargetSettings) -> _Made:
    image = np.zeros((target.batch, *shape), np.float32)
    try:
        _session(file, target.threads)(image)
    except (OSError, RuntimeError, ValueError) as error:
        said = next(iter(str(error).splitlines()), type(error).__name__)
        raise SpaceError(f"{file}: cannot be run on images {image.shape}: {said}") from error
    return _Made(shape, file=file)


def _session(file: Path, threads: int) -> Callable[[np.ndarray], object]:
    """Return a session on a file whose only input are images."""
    ort = require("onnxruntime", "onnx")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])
        (image,) = session.get_inputs()
    except Exception as error:  # the runtime's own errors are of no common class
        if isinstance(error, OSError):
            raise
        raise ValueError(f"is no ONNX file with one input ({error})") from error

    def run(images: np.ndarray) -> object:
        try:
            return session.run(None, {image.name: images})
        except Exception as error:
            raise ValueError(str(error)) from error

    return run


def _trained(
    study: Study,
    network: PlainNetwork | None,
    name: str,
    epochs: int,
    seed: int,
    progress: Progress,
    title: str,
) -> dict[str, float]:
    """Train a network in place, and return its scores; none of a file, which cannot be trained."""
    if network is None:
        return {}
    dataset = study.dataset
    recipe = recipe_of(replace(study.settings.train, epochs=epochs, seed=seed), "scratch")
    folder = study.folder.shelf_weights / hashlib.sha256(name.encode()).hexdigest()[:12]
    device = study.settings.target.host_device
    trained: Any = network
    train_alone(trained, dataset, recipe, folder, progress=progress, name=title, device=device)
    tested = accuracy(trained, dataset, "test").scores
    return {
        **accuracy(trained, dataset, "search").scores,
        **{f"test_{each}": tested[each] for each in tested},
    }


def _shelved(name: str, made: _Made, scores: dict[str, float], time: Latency, epochs: int) -> ShelfNetwork:
    metrics = {**made.metrics, **scores, "latency_ms": time.mean_ms}
    low, high = time.interval_ms
    if not metrics["latency_ms"] > 0:
        raise StudyError(f"{name}: its latency is {metrics['latency_ms']}; measure it again")
    return ShelfNetwork(name, metrics, (float(low), float(high)), epochs)
