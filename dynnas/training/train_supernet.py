"""The supernet's training loop: interruptible at any moment, resumed to the same result."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.data.dataset import Dataset
from dynnas.errors import TrainingError
from dynnas.nn.context import Context, Trace
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.nn.gates.mode import GateMode
from dynnas.settings.settings import TrainSettings
from dynnas.space.architecture import Architecture
from dynnas.supernet.elastic import Elastic
from dynnas.supernet.supernet import Supernet
from dynnas.threads import StepThreads, most_threads
from dynnas.training.algorithms.gate_budget import bounds_at
from dynnas.training.algorithms.gate_loss import RECORDS, Outcome, estimator_at, gate_loss
from dynnas.training.checkpoint import Checkpoint
from dynnas.training.distributed.ranks import Batch, Ranks
from dynnas.training.distributed.sync_layers import convert_layers, rows_of
from dynnas.training.execution import Execution, choose_execution, choose_threads
from dynnas.training.loss import sandwich, student_loss, take_gates, teacher_loss

CHECKPOINT_SECONDS = 20.0
SECONDS_A_CHECKPOINT_MAY_COST = 0.02
"""At most this part of the training time goes into checkpoints."""


Report = Callable[[float], None]
"""Told of every step, with its loss."""

Save = Callable[[Checkpoint], None]
"""Keeps a checkpoint in the place of the one before."""


@dataclass(frozen=True)
class Training:
    """All that a rank needs to take part in a training, wherever it runs.

    Attributes:
        supernet: with its initial weights.
        identity: what must be equal for a checkpoint to be continued: space, data and settings.
        checkpoint: what to go on with; None to begin.
        device: "cpu", "cuda", or one of several GPUs such as "cuda:1".
    """

    supernet: Supernet
    dataset: Dataset
    settings: TrainSettings
    identity: str
    checkpoint: Checkpoint | None
    device: str


def train_rank(training: Training, ranks: Ranks, report: Report, save: Save) -> None:
    """Train `training.supernet` in place, to the end, as one of `ranks`; rank 0 reports and saves.

    Every rank makes the same batches and draws the same networks, from (seed, step); it runs them on its part
    of the images, and all take the step that the gradient of the whole batch wants.

    Raises:
        TrainingError: a loss or the gradient is not finite; on all ranks alike.
    """
    run = _Run(training, ranks, save)
    while run.step < run.total:
        loss = run.advance()
        if ranks.leads:
            report(loss)


class _Run:
    """The state of one training: step, weights, optimizer; all else is derived from it."""

    def __init__(self, training: Training, ranks: Ranks, save: Save) -> None:
        self.settings, self.ranks, self.save_checkpoint = training.settings, ranks, save
        self.supernet = training.supernet.to(training.device)
        self.dataset = training.dataset.to(training.device)
        self.task = self.dataset.task.smoothed(self.settings.label_smoothing)
        self.identity = training.identity
        self.steps_per_epoch = self.dataset.steps(self.settings.batch)
        self.total = self.settings.epochs * self.steps_per_epoch
        self.batch = Batch(ranks, min(self.settings.batch, len(self.dataset.train)))
        self.step = 0
        self.losses: list[float] = []
        self.epoch_loss = 0.0
        self.execution: Execution | None = None
        self.threads: StepThreads | None = None
        if ranks.count > 1:
            for slot in self.supernet.slots.values():
                assert isinstance(slot, Elastic)
                slot.converted(partial(convert_layers, batch=self.batch))
        self.optimizer = make_optimizer(self.supernet, self.settings)
        self.saved = training.checkpoint is not None
        self.saved_at = time.monotonic()
        self.save_seconds = 0.0
        if training.checkpoint:
            self._restore(training.checkpoint)

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.supernet.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        self.step, self.losses = checkpoint.step, checkpoint.losses
        self.epoch_loss = checkpoint.epoch_loss
        self.execution = Execution(**checkpoint.execution)

    def advance(self) -> float:
        """One step of the sandwich rule; returns its loss (mean over the step's networks)."""
        epoch, index = divmod(self.step, self.steps_per_epoch)
        settings = self.settings
        images, targets = (
            tensor[self.batch.part]
            for tensor in self.dataset.train_batch(settings.seed, epoch, index, settings.batch)
        )
        self.supernet.train()
        if self.execution is None:
            self.execution = self.ranks.agree(choose_execution(self.supernet, images, settings))
        with self._threads(self.execution, images).step():
            loss = self._step(images, targets, self.execution)
        self.step += 1
        self._record(loss)
        self._save_if_due()
        return loss

    def _threads(self, execution: Execution, images: Tensor) -> StepThreads:
        """The threads of this run; a checkpoint keeps their number, for rounding depends on it."""
        if self.threads is None:
            self.threads = StepThreads(
                partial(choose_threads, self.supernet, images, self.settings, execution),
                min(execution.threads, most_threads()),
                fixed=self.settings.processes > 1,
            )
        return self.threads

    def _step(self, images: Tensor, targets: Tensor, execution: Execution) -> float:
        settings = self.settings
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(settings, self.step, self.steps_per_epoch)
        with seeded(settings.seed, self.step):
            loss = self._backward(execution.prepare(images), targets, execution)
        self.ranks.add_gradients(self.supernet.parameters())
        norm = nn.utils.clip_grad_norm_(self.supernet.parameters(), settings.clip_norm or math.inf)
        if not math.isfinite(float(norm)):
            raise TrainingError(f"training: the gradient is not finite at step {self.step}; {self._remedy()}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def _context(self) -> Context:
        context = context_at(self.settings, self.step, self.steps_per_epoch, self.total)
        if self.ranks.count == 1:
            return context
        rows = rows_of(self.batch)
        return context.replace(
            replace(context[GateMode], sample=rows), replace(context[RouterMode], sample=rows)
        )

    def _backward(self, images: Tensor, targets: Tensor, execution: Execution) -> float:
        settings = self.settings
        networks = sandwich(self.supernet.space, settings.random_networks, settings.seed, self.step)
        share = len(targets) / self.batch.images
        bounds = bounds_at(self.step, self.total)
        teacher: Tensor | None = None
        total = 0.0

        context = self._context()

        def run(architecture: Architecture, context: Context, open_gates: bool = False) -> list[Tensor]:
            with execution.autocast(images.device):
                outputs = self.supernet(images, architecture, open_gates, context)
                return [output.float() for output in outputs]

        for architecture in networks:
            # Statistics are those of all images of the batch, of those too that leave out a block or some of
            # its channels: what differs from image to image here is what gates try out. `calibrate` counts
            # for each network the images that really pass.
            trace = Trace(*RECORDS)
            said = run(architecture, context.traced(trace), teacher is None)
            config = self.supernet.config(architecture)
            outputs, exit_gates = take_gates(said, config.exits, targets, self.task)
            if teacher is None:
                teacher = outputs[-1].detach()
                losses = teacher_loss(outputs, targets, self.task, settings.exit_weight)
            else:
                losses = student_loss(
                    outputs,
                    teacher,
                    targets,
                    self.task,
                    settings.teacher_weight,
                    settings.exit_weight,
                )
            again = partial(run, architecture, cheapest(context))
            outcome = Outcome(losses, outputs[-1], targets, self.dataset.task)
            gates = gate_loss(config, trace, outcome, again, bounds, settings, self.batch)
            loss = losses.mean() + exit_gates + gates
            loss = share * loss  # a mean over the part: their sum is the mean over the batch
            value = float(self.ranks.add(loss.detach().clone()))
            if not math.isfinite(value):
                raise TrainingError(
                    f"training: the loss of architecture {architecture.key} is {value} at step {self.step} "
                    f"({_spell(architecture)}); {self._remedy()}"
                )
            loss.backward()  # the networks' gradients add up (US-Nets, algorithm 1)
            total += value / len(networks)
        return total

    def _remedy(self) -> str:
        kept = "the last good checkpoint is kept" if self.saved else "nothing was saved yet"
        return f"lower train.lr (now {self.settings.lr}) or set train.clip_norm; {kept}"

    def _record(self, loss: float) -> None:
        self.epoch_loss += loss / self.steps_per_epoch
        if self.step % self.steps_per_epoch == 0:
            self.losses.append(self.epoch_loss)
            self.epoch_loss = 0.0

    def _save_if_due(self) -> None:
        if not self.ranks.leads:
            return
        waited = time.monotonic() - self.saved_at
        pause = max(CHECKPOINT_SECONDS, self.save_seconds / SECONDS_A_CHECKPOINT_MAY_COST)
        if waited < pause and self.step < self.total:
            return
        start = time.monotonic()
        self.save_checkpoint(self._checkpoint())
        self.saved = True
        self.saved_at = time.monotonic()
        self.save_seconds = self.saved_at - start

    def _checkpoint(self) -> Checkpoint:
        assert self.execution is not None
        assert self.threads is not None
        return Checkpoint(
            step=self.step,
            total=self.total,
            identity=self.identity,
            model=dict(self.supernet.state_dict()),
            optimizer=self.optimizer.state_dict(),
            execution=asdict(replace(self.execution, threads=self.threads.count)),
            losses=list(self.losses),
            epoch_loss=self.epoch_loss,
        )


def learning_rate(settings: TrainSettings, step: int, steps_per_epoch: int) -> float:
    """Linear warm-up, then half a cosine to 0 at the end of the training."""
    total = settings.epochs * steps_per_epoch
    warmup = min(settings.warmup_epochs * steps_per_epoch, total / 2)
    if step < warmup:
        return settings.lr * (step + 1) / (warmup + 1)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def temperature(settings: TrainSettings, step: int, steps_per_epoch: int) -> float:
    """dyconv's softmax temperature: from `settings.temperature` linearly to 1 (Chen 2020, section 3.3)."""
    epochs = settings.epochs / 2 if settings.temperature_epochs is None else settings.temperature_epochs
    steps = epochs * steps_per_epoch
    left = max(0.0, 1 - step / steps) if steps else 0.0
    return 1 + (settings.temperature - 1) * left


def context_at(settings: TrainSettings, step: int, steps_per_epoch: int, total: int) -> Context:
    """How layers run at a step of a training that draws its weights."""
    estimator = estimator_at(settings, step, steps_per_epoch)
    return Context(
        GateMode(estimator=estimator, temperature=settings.gate_temperature, noise=gate_noise(step, total)),
        RouterMode(temperature(settings, step, steps_per_epoch), settings.routing_dropout),
    )


def cheapest(context: Context) -> Context:
    """The same, without a trace, with every gate at its cheapest alternative."""
    return context.traced(None).replace(replace(context[GateMode], choice="cheapest"))


def gate_noise(step: int, total: int) -> float:
    """Of gates that draw: from 1 linearly to 0 at three quarters of the training; see `Chooser`."""
    return max(0.0, 1 - step / (0.75 * total))


def make_optimizer(module: nn.Module, settings: TrainSettings) -> torch.optim.SGD:
    """SGD with Nesterov momentum; no weight decay on batch norm (tensors with one axis) and biases."""
    groups: list[dict[str, Any]] = [
        {"params": [], "weight_decay": settings.weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for name, parameter in module.named_parameters():
        spared = parameter.ndim <= 1 or name.endswith("bias")
        groups[spared]["params"].append(parameter)
    return torch.optim.SGD(groups, lr=settings.lr, momentum=settings.momentum, nesterov=settings.momentum > 0)


@contextmanager
def seeded(seed: int, step: int) -> Iterator[None]:
    """Draw what modules draw (dropout) from (seed, step), and leave the caller's generator as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed * 1_000_003 + step)
        yield


def _spell(architecture: Architecture) -> str:
    return ", ".join(f"{name}={value}" for name, value in architecture.items())
