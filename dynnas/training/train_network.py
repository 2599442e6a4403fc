"""The training of one finished network: interruptible at any moment, resumed to the same result."""

from __future__ import annotations

import hashlib
import json
import math
from copy import deepcopy
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from dynnas.data.dataset import Dataset, resize
from dynnas.errors import TrainingError
from dynnas.nn.context import PLAIN, Context, Trace, supplied
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network
from dynnas.progress import Progress
from dynnas.space.config.network import NetworkConfig
from dynnas.space.config.network_json import config_to_dict
from dynnas.threads import StepThreads, candidate_counts, fastest_count, most_threads
from dynnas.training.algorithms.constraint import Constraint
from dynnas.training.algorithms.gate_budget import bounds_at
from dynnas.training.algorithms.gate_loss import RECORDS, Outcome, gate_loss
from dynnas.training.average import Average
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.checkpoint import FILE, Checkpoint, read_checkpoint, save_checkpoint
from dynnas.training.distributed.ranks import Batch, Ranks
from dynnas.training.loss import student_loss, take_gates, teacher_loss
from dynnas.training.recipe import Recipe
from dynnas.training.train_supernet import cheapest, context_at, learning_rate, make_optimizer, seeded


def fresh_network(config: NetworkConfig, seed: int) -> Network:
    """A network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(config)


def train_alone(
    network: Network,
    dataset: Dataset,
    recipe: Recipe,
    folder: Path,
    *,
    teacher: Network | None = None,
    constraint: Constraint | None = None,
    since: int = 0,
    until: int | None = None,
    progress: Progress | None = None,
    name: str = "training",
    device: str = "cpu",
) -> Network:
    """Train `network` in place on the training split; the state after each epoch lies in `folder`.

    Called again with a network of the same weights, after an interruption, it goes on from the last whole
    epoch and ends with the same weights as a run that was never interrupted; after the end it only loads
    them.

    Args:
        network: with the weights to start from.
        recipe: how. Exits are trained with the head, their losses added as in the supernet.
        folder: of the checkpoint.
        teacher: in eval mode, calibrated; teaches by its head. None for targets alone.
        constraint: on the weights of `network`.
        since: the epoch to begin with, as if those before it had been run.
        until: the epoch to stop before, with the weights as they are; None for the end.

    Returns:
        `network` in eval mode: the averaged weights as the constraint ships them, batch norms calibrated for
        them. With `until`, just the weights.

    Raises:
        TrainingError: the checkpoint is damaged or of another training, or a loss is not finite.
    """
    run = _Run(network.to(device), dataset.to(device), recipe, folder, teacher, constraint or Constraint())
    run.step = since * run.steps_per_epoch
    run.restore()
    stop = run.total if until is None else min(run.total, until * run.steps_per_epoch)
    if run.step < stop:
        with (progress or Progress()).task(name, run.total, done=run.step) as task:
            while run.step < stop:
                loss = run.advance()
                task.advance(note=f"loss {loss:.3f}")
    return run.finish() if until is None else network


class _Run:
    """The state of one training; what is not in it is derived from the step."""

    def __init__(
        self,
        network: Network,
        dataset: Dataset,
        recipe: Recipe,
        folder: Path,
        teacher: Network | None,
        constraint: Constraint,
    ) -> None:
        self.network, self.dataset, self.recipe, self.folder = network, dataset, recipe, folder
        self.constraint = constraint
        self.task = dataset.task.smoothed(recipe.train.label_smoothing)
        self.device = next(network.parameters()).device
        self.teacher = teacher.to(self.device).eval() if teacher else None
        self.identity = _identity(network, dataset, recipe, teacher, constraint)
        self.execution = recipe.execution(self.device.type)
        self.threads: StepThreads | None = None
        self.steps_per_epoch = dataset.steps(recipe.train.batch)
        self.total = recipe.train.epochs * self.steps_per_epoch
        self.step = 0
        self.losses: list[float] = []
        self.epoch_loss = 0.0
        self.optimizer = make_optimizer(network, recipe.train)
        self.average = Average(network, recipe.ema)

    def restore(self) -> None:
        """Take over the checkpoint, if there is one, after seeing that it is of this training."""
        checkpoint = read_checkpoint(self.folder)
        if checkpoint is None:
            return
        if checkpoint.identity != self.identity:
            raise TrainingError(
                f"{self.folder / FILE}: a training of another network, data set or settings; "
                "delete its folder to train anew"
            )
        self.network.load_state_dict(checkpoint.model["network"])
        self.average.load(checkpoint.model["average"])
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.losses = checkpoint.step, checkpoint.losses
        self.threads = self._threads(min(checkpoint.execution["threads"], most_threads()))

    def _threads(self, count: int) -> StepThreads:
        return StepThreads(self._fastest_count, count)

    def _fastest_count(self) -> int:
        """The fastest number of threads for a batch, by a copy of the network: statistics must not change."""
        if self.device.type != "cpu":
            return most_threads()
        network = deepcopy(self.network).train()
        images, _ = self.dataset.train_batch(self.recipe.train.seed, 0, 0, self.recipe.train.batch)
        x = self.execution.prepare(resize(images, network.config.resolution))

        def run() -> None:
            with self.execution.autocast(self.device):
                outputs = network.logits(x)
            torch.stack([logits.float().square().mean() for logits in outputs]).sum().backward()

        with seeded(self.recipe.train.seed, self.step):
            return fastest_count(run, candidate_counts(most_threads()))

    def advance(self) -> float:
        """One step; returns its loss."""
        if self.threads is None:
            self.threads = self._threads(self._fastest_count())
        with self.threads.step():
            value = self._step()
        self.step += 1
        self.epoch_loss += value / self.steps_per_epoch
        if self.step % self.steps_per_epoch == 0:
            self.losses.append(self.epoch_loss)
            self.epoch_loss = 0.0
            self._save()
        return value

    def _step(self) -> float:
        train = self.recipe.train
        epoch, index = divmod(self.step, self.steps_per_epoch)
        images, targets = self.dataset.train_batch(train.seed, epoch, index, train.batch)
        self.network.train()
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(train, self.step, self.steps_per_epoch)
        with seeded(train.seed, self.step), self.constraint.forward():
            loss = self._loss(images, targets)
            value = float(loss.detach())
            loss.backward()
        self.constraint.gradients()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), train.clip_norm or math.inf)
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            raise TrainingError(
                f"training: the loss is {value} and the gradient's norm {float(norm)} at step {self.step}; "
                f"lower the learning rate (now {train.lr}); whole epochs are kept"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.constraint.weights()
        self.average.update(self.step)
        return value

    def _context(self) -> Context:
        train = self.recipe.train
        context = context_at(train, self.step, self.steps_per_epoch, self.total)
        if self.recipe.start != "inherited":
            return context
        # Inherited weights have been through the annealing already.
        return context.replace(
            replace(context[GateMode], noise=0.0), replace(context[RouterMode], temperature=1.0)
        )

    def _loss(self, images: Tensor, targets: Tensor) -> Tensor:
        train, config = self.recipe.train, self.network.config

        def run(context: Context, network: Network = self.network) -> list[Tensor]:
            x = self.execution.prepare(resize(images, network.config.resolution))
            with self.execution.autocast(self.device), supplied(network, context):
                return [output.float() for output in network.logits(x)]

        context, trace = self._context(), Trace(*RECORDS)
        said = run(context.traced(trace))
        outputs, exit_gates = take_gates(said, config.exits, targets, self.task)
        if self.teacher is None:
            losses = teacher_loss(outputs, targets, self.task, train.exit_weight)
        else:
            with torch.no_grad():
                taught = run(PLAIN, self.teacher)[-1]
            losses = student_loss(
                outputs, taught, targets, self.task, train.teacher_weight, train.exit_weight,
                self.recipe.teacher_temperature,
            )  # fmt: skip
        bounds, batch = bounds_at(self.step, self.total), Batch(Ranks(), len(targets))
        outcome = Outcome(losses, outputs[-1], targets, self.dataset.task)
        again = partial(run, cheapest(context))
        gates = gate_loss(config, trace, outcome, again, bounds, train, batch)
        return losses.mean() + exit_gates + gates

    def _save(self) -> None:
        assert self.threads is not None
        model = {"network": dict(self.network.state_dict()), "average": self.average.values}
        checkpoint = Checkpoint(
            step=self.step,
            total=self.total,
            identity=self.identity,
            model=model,
            optimizer=self.optimizer.state_dict(),
            execution=asdict(replace(self.execution, threads=self.threads.count)),
            losses=list(self.losses),
            epoch_loss=self.epoch_loss,
        )
        save_checkpoint(checkpoint, self.folder)

    def finish(self) -> Network:
        """The network that ships."""
        train = self.recipe.train
        if self.recipe.ema:
            self.average.apply()
        self.constraint.finish()
        images = self.dataset.calibration_images(train.calibration_images, train.seed)
        return calibrate(self.network, resize(images, self.network.config.resolution))


def _identity(
    network: Network, dataset: Dataset, recipe: Recipe, teacher: Network | None, constraint: Constraint
) -> str:
    """What must be equal for a checkpoint to be continued."""
    facts = [
        config_to_dict(network.config),
        weights_digest(network),
        dataset.digest,
        recipe.digest,
        weights_digest(teacher) if teacher else None,
        constraint.name,
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
