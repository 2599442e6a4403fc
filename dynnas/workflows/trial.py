"""A trial of a task of two functions before the training, so that its faults do not come after hours."""

from __future__ import annotations

from dataclasses import replace

import torch

from dynnas.candidates.candidate import Extractor
from dynnas.data.dataset import Dataset
from dynnas.errors import TaskError
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.context import PLAIN
from dynnas.settings.settings import TrainSettings
from dynnas.space.moves import smallest
from dynnas.supernet.supernet import Supernet
from dynnas.tasks.builtin.functions import Functions
from dynnas.training.models import model_of

_CALIBRATED_ON = 64


def try_functions(supernet: Supernet, dataset: Dataset, train: TrainSettings, device: str) -> None:
    """Call the functions of a task once with the smallest network; other tasks are known to work.

    The step gets a training batch, the score the search split. No weight changes, and no random number is
    drawn from torch's generator.

    Args:
        supernet: as it was made; it is moved to the device.
        dataset: on the device. train: the settings of its training. device: on which it will be trained.

    Raises:
        TaskError: a function raised an error or gave something else than it should, or no gradient passes
            through the loss.
    """
    task = dataset.task
    if not isinstance(task, Functions):
        return
    architecture = smallest(supernet.to(device).space)
    brief = replace(train, calibration_images=min(train.calibration_images, _CALIBRATED_ON))
    with torch.random.fork_rng(devices=[]):
        accuracy(Extractor(supernet, dataset, brief).candidate(architecture).calibrated, dataset)
        model = model_of(supernet.extract(architecture).train())
        batch = dataset.train_batch(train.seed, 0, 0, train.batch)
        loss = task.step(lambda images: model.forward(images, None, PLAIN, False)[-1], batch)
    if not loss.requires_grad:
        raise TaskError(
            f"task {task.name}: no gradient passes through the loss of its step; leave out detach, no_grad, "
            "argmax and the like on the way from the model's output"
        )
