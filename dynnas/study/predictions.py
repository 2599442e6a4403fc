"""Predictions of networks for the images of a study, computed once and kept in its folder."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dynnas.documents import provenance_digest
from dynnas.files import replacing
from dynnas.metrics.accuracy import predict
from dynnas.nn.exits.exits import leave
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.runtimes.cost import cost_of
from dynnas.study.records.compressed import Compressed
from dynnas.study.records.trained import Trained
from dynnas.study.study import Study
from dynnas.tasks.task import Task

FORMAT = 3

Split = Literal["search", "test"]


@dataclass(frozen=True)
class Predictions:
    """The predictions of one network on one split.

    Attributes:
        outputs: (N, ...) float32, with which each image leaves.
        exits: (N,) int64, by which exit, the number of exits for the head.
        macs: (N,) float64, what each image costs: by its exit, and by what gates say of it.
    """

    outputs: np.ndarray
    exits: np.ndarray
    macs: np.ndarray

    def confidence(self, task: Task) -> np.ndarray:
        """Return the confidence of the outputs, by which networks decide: (N,) float32."""
        return task.confidence(torch.from_numpy(self.outputs)).numpy()

    def quality(self, task: Task, targets: torch.Tensor) -> np.ndarray:
        """Return the quality of the answers, from 0 to 1: (N,) float64."""
        return task.quality(torch.from_numpy(self.outputs), targets.cpu()).double().numpy()


@dataclass(frozen=True)
class Source:
    """A network of a study with the weights that it is to have; None for those of the supernet."""

    study: Study
    key: str
    made: Trained | Compressed | None = None

    @property
    def weights(self) -> str:
        """Return the name of the weights, as `Study.weights_of` takes it."""
        return self.made.name if self.made else "inherited"

    def network(self) -> Network:
        """Return the network, calibrated, in eval mode."""
        study = self.study
        return study.trained_network(self.made) if self.made else study.candidate(self.key).calibrated

    def digest(self, split: Split) -> str:
        """Return the digest of everything that the predictions depend on."""
        study, train = self.study, self.study.settings.train
        weights = (self.made.weights_digest if self.made else None) or study.supernet.digest()
        return provenance_digest(
            {
                "architecture": self.key,
                "weights": weights,
                "calibration": "" if self.made else f"{train.calibration_images} images, seed {train.seed}",
                "data": study.dataset.digest,
                "split": split,
            }
        )


def predictions(source: Source, split: Split, progress: Progress) -> Predictions:
    """Return a network's predictions on a split, from the study's folder, or computed and left there.

    Raises:
        TrainingError: the supernet is not trained.
    """
    digest = source.digest(split)
    path = source.study.folder.predictions / f"{source.key}-{split}.npz"
    try:
        if found := _read(path, digest):
            return found
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        progress.message(f"{path}: damaged ({error!r}), so it is computed again")
    network = source.network()
    dataset = source.study.dataset
    with torch.inference_mode():
        outputs, decided, exits = predict(network, dataset, getattr(dataset, split).images)
        chosen, _ = leave(outputs, network.config.exits)
        macs = cost_of(network).image_macs(exits, [decision.usage for decision in decided])
    made = Predictions(chosen.float().cpu().numpy(), exits.cpu().numpy(), macs.cpu().numpy())
    _write(path, digest, made)
    return made


def _read(path: Path, digest: str) -> Predictions | None:
    """Return the predictions in a file; None if there is none, or one of something else."""
    if not path.exists():
        return None
    with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
        about = json.loads(str(file["about"]))
        if about != {"dynnas_predictions": FORMAT, "of": digest}:
            return None
        return Predictions(file["outputs"], file["exits"], file["macs"])


def _write(path: Path, digest: str, made: Predictions) -> None:
    about = json.dumps({"dynnas_predictions": FORMAT, "of": digest})
    with replacing(path) as file:
        np.savez(file, about=np.array(about), outputs=made.outputs, exits=made.exits, macs=made.macs)
