"""The training of one finished network: interruptible at any moment, resumed to the same result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch

from dynnas.data.dataset import Dataset
from dynnas.nn.config.network import NetworkConfig
from dynnas.nn.config.network_json import config_to_dict
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.tasks.task import Task
from dynnas.training.algorithm import Algorithm, state_name
from dynnas.training.algorithms.ema import Ema
from dynnas.training.algorithms.teaching.distillation import Distillation, teachers_of
from dynnas.training.batches import DatasetBatches
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.checkpoint import CheckpointTimer
from dynnas.training.device import usable_device
from dynnas.training.recipe import Recipe, common_algorithms
from dynnas.training.schedule import Cosine, make_optimizer
from dynnas.training.trainer import Trainer


def fresh_network(config: NetworkConfig, seed: int) -> Network:
    """Return a network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(config)


def train_alone(
    network: Network,
    dataset: Dataset,
    recipe: Recipe,
    folder: Path,
    *,
    teacher: Network | Sequence[Network] | None = None,
    algorithms: Sequence[Algorithm] = (),
    task: Task | None = None,
    since: int = 0,
    until: int | None = None,
    progress: Progress | None = None,
    name: str = "training",
    device: str = "cpu",
    timer: CheckpointTimer | None = None,
) -> Network:
    """Train `network` in place on the training split; the state lies in `folder`/checkpoint.pt.

    Called again with a network of the same weights, after an interruption, it goes on from the last
    checkpoint and ends with the same weights as a run that was never interrupted; after the end it only loads
    them.

    Args:
        network: with the weights to start from.
        recipe: how. Exits are trained with the head, their losses added as in the supernet.
        folder: of the checkpoint.
        teacher: in eval mode, calibrated; teaches by its head. It may be several; None for labels alone.
        algorithms: beside those of the recipe, such as a constraint on the weights.
        task: what outputs and labels mean; the data's task if None.
        since: the epoch to begin with, as if those before it had been run.
        until: the epoch to stop before, with the weights as they are; None for the end.
        timer: says when checkpoints are due.

    Returns:
        `network` in eval mode: the averaged weights as the algorithms ship them, batch norms calibrated for
        them. With `until`, just the weights.

    Raises:
        TrainingError: the checkpoint is damaged or of another training, or a loss is not finite.
        TargetError: torch does not see the device.
    """
    device = usable_device(device)
    train = recipe.train
    data = dataset.to(device)
    trainer = Trainer(
        network,
        task or dataset.task,
        DatasetBatches(data, train.batch, train.seed),
        algorithms=_algorithms(recipe, teacher, algorithms),
        optimizer=partial(make_optimizer, settings=train),
        schedule=Cosine(train.warmup_epochs),
        epochs=train.epochs,
        accumulate=train.accumulate,
        seed=train.seed,
        clip_norm=train.clip_norm,
        folder=folder,
        identity=_identity(network, dataset, recipe, teacher, algorithms),
        device=device,
        layouts=(recipe.layout,),
        precisions=(recipe.precision(device),),
        timer=timer,
    )
    steps = trainer.run.steps_per_epoch
    trainer.run.step = max(trainer.run.step, since * steps)
    trainer.fit(until=None if until is None else until * steps, progress=progress, name=name)
    if until is not None:
        return network
    images = data.calibration_images(train.calibration_images, train.seed)
    with ExitStack() as stack:
        for algorithm in trainer.algorithms:
            stack.enter_context(algorithm.calibration(trainer.run))
        return calibrate(network, resize(images, network.config.shape[1:]))


def _algorithms(
    recipe: Recipe, teacher: Network | Sequence[Network] | None, extra: Sequence[Algorithm]
) -> list[Algorithm]:
    """Return the algorithms with averages first, so that later conversions of weights convert the average."""
    train = recipe.train
    taught = [Distillation(recipe.teacher_weight, recipe.teacher_temperature, teacher)] if teacher else []
    common = common_algorithms(train, annealed=recipe.start == "inherited")
    averaged = [Ema(recipe.ema)] if recipe.ema else []
    return [*taught, *common, *averaged, *extra]


def _identity(
    network: Network,
    dataset: Dataset,
    recipe: Recipe,
    teacher: Network | Sequence[Network] | None,
    algorithms: Sequence[Algorithm],
) -> str:
    """Return the facts that must be equal for a checkpoint to be continued."""
    made_of: object = network.config
    if isinstance(network, Network):
        made_of = config_to_dict(network.config)
    facts = [
        repr(made_of) if not isinstance(made_of, dict) else made_of,
        weights_digest(network),
        dataset.digest,
        recipe.digest,
        [weights_digest(each) for each in teachers_of(teacher)],
        [state_name(each) for each in algorithms],
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
