"""The training of a supernet: begun or continued, in this process or in several."""

from __future__ import annotations

import hashlib
import json
from functools import partial
from pathlib import Path
from typing import Protocol

from dynnas.data.dataset import Dataset
from dynnas.errors import TrainingError
from dynnas.progress import Progress
from dynnas.settings.settings import TrainSettings
from dynnas.supernet.supernet import Supernet
from dynnas.tasks.task import Task
from dynnas.training.checkpoint import FILE, CheckpointTimer, read_checkpoint, save_checkpoint
from dynnas.training.device import usable_device
from dynnas.training.distributed.processes import launch_processes
from dynnas.training.distributed.ranks import Ranks
from dynnas.training.schedule import steps_of
from dynnas.training.train_supernet import Report, Training, train_rank
from dynnas.training.weights.initial import begin_with, file_digest


class Launch(Protocol):
    """A function that runs a training in several processes, to its end."""

    def __call__(self, training: Training, folder: Path, report: Report) -> None:
        """Run `train_rank` in `training.settings.processes` ranks; checkpoints go to `folder`.

        Raises:
            TrainingError: as `train_rank` says, or a process has ended; all of them have ended then.
        """
        ...


def train_supernet(
    supernet: Supernet,
    dataset: Dataset,
    settings: TrainSettings,
    folder: Path,
    *,
    progress: Progress | None = None,
    device: str = "cpu",
    launch: Launch | None = None,
    task: Task | None = None,
    timer: CheckpointTimer | None = None,
) -> None:
    """Train `supernet` in place on the training split; the state lives in `folder`/checkpoint.pt.

    Called again after an interruption it goes on from the last checkpoint, and ends with the same weights as
    a run that was never interrupted; called on a finished training it only loads the weights. Several
    processes end with the weights of one, up to rounding, and either goes on with the other's checkpoint.

    Args:
        launch: how to run `settings.processes` if they are several: on this machine if None.
        task: what outputs and labels mean; the data's task if None.
        timer: says when checkpoints are due.

    Raises:
        TrainingError: the checkpoint belongs to another space, data set or settings, or a loss is not finite
            (the last checkpoint, with finite weights, is kept), a process of several has ended, or nothing
            in the file of `settings.init` fits.
        TargetError: torch does not see the device.
    """
    device = usable_device(device)
    identity = training_identity(supernet, dataset, settings)
    checkpoint = read_checkpoint(folder)
    if checkpoint and checkpoint.identity != identity:
        raise TrainingError(
            f"{folder / FILE}: a training of another space, data set or settings; "
            "give this one another --name, or begin again with --fresh"
        )
    if settings.init and checkpoint is None:
        begin_with(supernet, settings.init, folder, progress or Progress())
    training = Training(supernet, dataset, settings, identity, checkpoint, device, task, timer)
    if checkpoint is None or not checkpoint.finished:
        total = settings.epochs * steps_of(dataset.steps(settings.batch), settings.accumulate)
        with (progress or Progress()).task(
            "training", total, done=checkpoint.step if checkpoint else 0
        ) as bar:

            def report(loss: float) -> None:
                bar.advance(note=f"loss {loss:.3f}")

            if settings.processes == 1:
                train_rank(training, Ranks(), report, partial(save_checkpoint, folder=folder))
            else:
                (launch or launch_processes)(training, folder, report)
                checkpoint = read_checkpoint(folder)
    if checkpoint and checkpoint.finished:
        supernet.load_state_dict(checkpoint.model)
    supernet.to(device).eval()


def training_identity(supernet: Supernet, dataset: Dataset, settings: TrainSettings) -> str:
    """Return a name of what the weights depend on: space, data and settings, but no number of processes.

    Raises:
        TrainingError: the file of the initial weights cannot be read.
    """
    recipe = {name: value for name, value in settings.facts().items() if name != "processes"}
    recipe["init"] = file_digest(settings.init) if settings.init else None
    facts = [supernet.space.digest, dataset.digest, recipe]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
