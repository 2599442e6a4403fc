"""The training of a supernet as one of several ranks, or alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dynnas.data.dataset import Dataset
from dynnas.settings.settings import TrainSettings
from dynnas.supernet.supernet import Supernet
from dynnas.tasks.task import Task
from dynnas.training.batches import DatasetBatches
from dynnas.training.checkpoint import Checkpoint, CheckpointTimer, Save
from dynnas.training.distributed.ranks import Ranks
from dynnas.training.interruption import Stop
from dynnas.training.recipe import layouts_of, precisions_of, supernet_algorithms
from dynnas.training.schedule import Cosine, make_optimizer
from dynnas.training.trainer import Trainer

Report = Callable[[float], None]
"""A function that is told the loss of every step."""


@dataclass(frozen=True)
class Training:
    """Everything that a rank needs to take part in a training, wherever it runs.

    Attributes:
        supernet: with its initial weights.
        identity: what must be equal for a checkpoint to be continued: space, data and settings.
        checkpoint: what to go on with; None to begin.
        device: "cpu", "cuda", or one of several GPUs such as "cuda:1".
        task: what outputs and labels mean; the data's task if None.
        timer: says when checkpoints are due.
    """

    supernet: Supernet
    dataset: Dataset
    settings: TrainSettings
    identity: str
    checkpoint: Checkpoint | None
    device: str
    task: Task | None = None
    timer: CheckpointTimer | None = None


def train_rank(
    training: Training, ranks: Ranks, report: Report, save: Save, stop: Stop | None = None
) -> None:
    """Train `training.supernet` in place, to the end, as one of `ranks`; rank 0 reports and saves.

    Every rank makes the same batches and draws the same networks, from (seed, step); it runs them on its part
    of the images, and all take the step that the gradient of the whole batch wants.

    Args:
        stop: may ask to save and to stop after the current step.

    Raises:
        TrainingError: a loss or the gradient is not finite; on all ranks alike.
    """
    settings = training.settings
    trainer = Trainer(
        training.supernet,
        training.task or training.dataset.task,
        DatasetBatches(training.dataset.to(training.device), settings.batch, settings.seed),
        algorithms=supernet_algorithms(settings),
        optimizer=partial(make_optimizer, settings=settings),
        schedule=Cosine(settings.warmup_epochs),
        epochs=settings.epochs,
        accumulate=settings.accumulate,
        seed=settings.seed,
        clip_norm=settings.clip_norm,
        identity=training.identity,
        device=training.device,
        layouts=layouts_of(settings),
        precisions=precisions_of(settings),
        ranks=ranks,
        save=save,
        timer=training.timer,
    )
    if training.checkpoint:
        trainer.restore(training.checkpoint)
    trainer.fit(report=report if ranks.leads else None, stop=stop)
