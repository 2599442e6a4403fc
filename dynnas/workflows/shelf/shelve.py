"""The command `dynnas shelf` of a study: networks from elsewhere, timed and trained as its own are."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from dynnas.errors import StudyError
from dynnas.files import atomic_write
from dynnas.latency.latency import Latency
from dynnas.metrics.accuracy import accuracy
from dynnas.progress import Progress
from dynnas.search.evaluators.supernet import open_meter
from dynnas.search.storage.locks import study_lock
from dynnas.study.records.shelf import Shelf, ShelfNetwork
from dynnas.study.study import Study
from dynnas.training.train_network import train_alone
from dynnas.training.weights.files import WEIGHTS, save_network
from dynnas.workflows.shelf.made import Made, make
from dynnas.workflows.train import recipe_of


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
        made = {
            name: make(name, maker, dataset.shape, dataset.task.outputs, meter.target, seed)
            for name, maker in makers.items()
        }
        scores: dict[str, dict[str, float]] = {name: {} for name in made}
        if epochs:
            for number, (name, each) in enumerate(made.items(), 1):
                title = f"training {name} ({number} of {len(made)})"
                scores[name] = _trained(study, each, epochs, seed, progress, title)
        workloads = [each.workload(meter.target) for each in made.values()]
        times = meter.measure_jointly(workloads, seed)
        found = [
            _shelved(study, each, scores[name], time, epochs if scores[name] else 0)
            for (name, each), time in zip(made.items(), times, strict=True)
        ]
        shelf = study.shelf.with_networks(found)
        atomic_write(study.folder.shelf, shelf.to_json())
    return shelf


def _trained(
    study: Study, made: Made, epochs: int, seed: int, progress: Progress, title: str
) -> dict[str, float]:
    """Train a network in place, keep its weights, and return its scores.

    None of a file, which cannot be trained.
    """
    if made.network is None:
        return {}
    dataset = study.dataset
    recipe = recipe_of(replace(study.settings.train, epochs=epochs, seed=seed), "scratch")
    folder = _weights_folder(study, made)
    device = study.settings.target.host_device
    trained: Any = made.network
    train_alone(trained, dataset, recipe, folder, progress=progress, name=title, device=device)
    save_network(trained, folder)
    tested = accuracy(trained, dataset, "test").scores
    return {
        **accuracy(trained, dataset, "search").scores,
        **{f"test_{each}": tested[each] for each in tested},
    }


def _weights_folder(study: Study, made: Made) -> Path:
    return study.folder.shelf_weights / hashlib.sha256(made.name.encode()).hexdigest()[:12]


def _shelved(study: Study, made: Made, scores: dict[str, float], time: Latency, epochs: int) -> ShelfNetwork:
    metrics = {**made.metrics, **scores, "latency_ms": time.mean_ms}
    low, high = time.interval_ms
    if not metrics["latency_ms"] > 0:
        raise StudyError(f"{made.name}: its latency is {metrics['latency_ms']}; measure it again")
    start: tuple[str, ...] = ()
    if scores and made.named:
        weights = _weights_folder(study, made) / WEIGHTS
        start = (str(weights.relative_to(study.folder.path)), *made.options)
    return ShelfNetwork(made.name, metrics, (float(low), float(high)), epochs, start)
