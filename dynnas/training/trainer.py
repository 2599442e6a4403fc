"""The training loop, of a supernet and of a single network alike: interruptible, resumed to equal weights."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dynnas.errors import DynnasError, TrainingError
from dynnas.nn.context import PLAIN, Context
from dynnas.nn.dynamic_conv.mode import RouterMode
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.dropout import DropoutMode
from dynnas.progress import Progress
from dynnas.tasks.task import Task
from dynnas.threads import StepThreads, most_threads
from dynnas.training.algorithm import Algorithm, Run, make_algorithms, state_name
from dynnas.training.batches import Batches, LoaderBatches, part_of, rows
from dynnas.training.checkpoint import (
    FILE,
    Checkpoint,
    CheckpointTimer,
    Save,
    read_checkpoint,
    save_checkpoint,
)
from dynnas.training.distributed.ranks import Batch, Ranks
from dynnas.training.distributed.sync_layers import convert_layers, rows_of
from dynnas.training.execution import Execution, Trial, choose_execution, choose_threads, run_trial
from dynnas.training.interruption import Stop, stop_on_signals
from dynnas.training.models import Model, model_of
from dynnas.training.passes import Passes, seeded
from dynnas.training.schedule import Schedule, constant, steps_of

Optimizer = torch.optim.Optimizer | Callable[[nn.Module], torch.optim.Optimizer]
"""An optimizer, or a function that makes one for a module."""


class Trainer:
    """Trains a supernet, a network of dynnas or any module by algorithms.

    Interrupted, a trainer that is made again in the same way with the same folder goes on from the last
    checkpoint, and ends with the same weights as one that was never interrupted.

    Args:
        model: a `Supernet`, a `Network`, or any module that takes the inputs and gives an output (B, ...), or
            a tuple whose last element counts. It is trained in place.
        task: what outputs and targets mean.
        data: batches, or an iterable of pairs (inputs, targets) such as a `torch.utils.data.DataLoader`.
        algorithms: objects, or names of `ALGORITHMS`; their hooks are called in this order.
        optimizer: of the model's parameters, or a function of the module that makes it.
        schedule: of the learning rate; None leaves it as the optimizer has it.
        epochs: passes over the data.
        accumulate: batches whose mean gradient makes a step; those of an epoch that make no whole step are
            left out.
        seed: draws what modules and algorithms draw.
        clip_norm: largest norm of the gradient; 0 for no clipping.
        folder: of the checkpoint; None keeps none.
        identity: what must be equal for a checkpoint to be continued, in any words; by default the shapes of
            the weights, the task, the seed, the number of steps and the names of the algorithms.
        device: "cpu", "cuda", or one of several GPUs such as "cuda:1".
        layouts, precisions: ways of the arithmetic to choose from by a short trial, the plain one first.
        execution: how the arithmetic is done, without a trial.
        ranks: the processes that train together.
        save: keeps a checkpoint; by default in `folder`.
        timer: says when a checkpoint is due.

    Raises:
        TrainingError: an algorithm's name is not known, or an epoch has too few batches for a step.
    """

    def __init__(
        self,
        model: nn.Module | Model,
        task: Task,
        data: Batches | Iterable[tuple[Any, Any]],
        *,
        algorithms: Sequence[Algorithm | str] = (),
        optimizer: Optimizer,
        schedule: Schedule | None = None,
        epochs: int = 1,
        accumulate: int = 1,
        seed: int = 0,
        clip_norm: float = 0.0,
        folder: Path | None = None,
        identity: str = "",
        device: str = "cpu",
        layouts: Sequence[str] = ("channels_first",),
        precisions: Sequence[str] = ("float32",),
        execution: Execution | None = None,
        ranks: Ranks | None = None,
        save: Save | None = None,
        timer: CheckpointTimer | None = None,
    ) -> None:
        self.model = model_of(model)
        self.model.module.to(device)
        self._batches = data if isinstance(data, Batches) else LoaderBatches(data, seed, device)
        self.algorithms = make_algorithms(algorithms)
        if not isinstance(optimizer, torch.optim.Optimizer):
            optimizer = optimizer(self.model.module)
        self.optimizer = optimizer
        self._schedule = schedule or constant
        self._clip_norm, self._folder = clip_norm, folder
        self._device = torch.device(device)
        self._layouts, self._precisions, self.ranks = layouts, precisions, ranks or Ranks()
        self._save = save or (partial(save_checkpoint, folder=folder) if folder else None)
        self._timer = timer or CheckpointTimer()
        self._threads: StepThreads | None = None
        self._passes = Passes(self._device, self._remedy)
        self._passes.execution = execution
        steps = steps_of(self._batches.steps_per_epoch, accumulate)
        self.run = self._passes.run = Run(
            self.model,
            task,
            self.algorithms,
            seed,
            epochs * steps,
            steps,
            self._passes.run_model,
            accumulate=accumulate,
        )
        self.losses: list[float] = []
        self._epoch_loss, self._saved, self._plain = 0.0, False, PLAIN
        self._identity = identity or self._default_identity()
        self._peaks = [group["lr"] for group in self.optimizer.param_groups]
        self._passes.records = tuple({kind for each in self.algorithms for kind in each.records})
        for algorithm in self.algorithms:
            algorithm.on_start(self.run)
        if folder is not None and (checkpoint := read_checkpoint(folder)) is not None:
            self.restore(checkpoint)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from a checkpoint.

        Raises:
            TrainingError: it is of another training, or of other algorithms.
        """
        if checkpoint.identity != self._identity:
            where = self._folder / FILE if self._folder else "checkpoint"
            raise TrainingError(
                f"{where}: a training of another network, data set or settings; delete its folder to start "
                "again"
            )
        self.model.module.load_state_dict(checkpoint.model)
        self.optimizer.load_state_dict(checkpoint.optimizer)
        for algorithm in self.algorithms:
            algorithm.load_state_dict(checkpoint.algorithms.get(state_name(algorithm), {}))
        self.run.step = checkpoint.step
        self.losses, self._epoch_loss = checkpoint.losses, checkpoint.epoch_loss
        self._passes.execution = Execution(**checkpoint.execution)
        self._threads = self._step_threads(self._passes.execution)
        self._saved = True

    def fit(
        self,
        *,
        until: int | None = None,
        progress: Progress | None = None,
        name: str = "training",
        report: Callable[[float], None] | None = None,
        stop: Stop | None = None,
    ) -> nn.Module:
        """Train to the end, finish, and return the given module in evaluation mode.

        Ctrl-C and SIGTERM save a checkpoint first.

        Args:
            until: the step to stop before, without finishing; None for the end.
            progress: is told of every step. report: is told the loss of every step.
            stop: may be asked from elsewhere to stop after the current step; a checkpoint is saved then.

        Raises:
            TrainingError: a loss or the gradient is not finite; on all ranks alike.
        """
        run, stop = self.run, Stop() if stop is None else stop
        last = run.total if until is None else min(until, run.total)
        begun = run.step < last
        if begun:
            with (progress or Progress()).task(name, run.total, done=run.step) as task, stop_on_signals(stop):
                while run.step < last and not stop:
                    loss = self.advance()
                    if run.step < last and self._timer.due():
                        self._keep()
                    with self._saving_if_interrupted():
                        if report:
                            report(loss)
                        task.advance(note=f"loss {loss:.3f}")
                self._keep()
        if stop:
            stop.obey()
        if until is None:
            for algorithm in self.algorithms:
                algorithm.on_finish(run)
        return self.model.module.eval()

    def advance(self) -> float:
        """Take one step, and return its loss: the mean over images and over the step's networks."""
        run, passes = self.run, self._passes
        self._next_batch(0)
        self.model.module.train()
        if passes.execution is None:
            passes.execution = self.ranks.agree(self._chosen_execution())
        if self._threads is None:
            self._threads = self._step_threads(passes.execution)
        share = 1 / run.accumulate
        with self._threads.step():
            run.inputs = passes.execution.prepare(run.inputs)
            loss = passes.gradients(self._plain, share)
            for number in range(1, run.accumulate):
                self._next_batch(number)
                run.inputs = passes.execution.prepare(run.inputs)
                loss += passes.gradients(self._plain, share)
            self._update()
        run.step += 1
        self._epoch_loss += loss / run.steps_per_epoch
        if run.step % run.steps_per_epoch == 0:
            self.losses.append(self._epoch_loss)
            self._epoch_loss = 0.0
        return loss

    def _next_batch(self, number: int) -> None:
        """Put a batch of the current step, the first or a later one, before the algorithms."""
        run = self.run
        epoch, index = divmod(run.step, run.steps_per_epoch)
        given, targets = self._batch(epoch, index * run.accumulate + number)
        run.part, inputs = number, given
        for algorithm in self.algorithms:
            inputs, targets = algorithm.on_batch(run, inputs, targets)
        run.batch = Batch(self.ranks, rows(inputs))
        part = run.batch.part
        numbers = getattr(self._batches, "numbers", None)
        known = None if numbers is None else numbers(epoch, index * run.accumulate + number)
        run.numbers = None if known is None or inputs is not given else known[part]
        whole = self.ranks.count == 1
        run.inputs, run.targets = (
            (inputs, targets) if whole else (part_of(inputs, part), part_of(targets, part))
        )
        self._see_whole_batch(run.batch)

    def _update(self) -> None:
        """Take a step of the optimizer with the gradients that are there."""
        run = self.run
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = self._schedule(peak, run.step, run.total, run.steps_per_epoch)
        parameters = list(self.model.module.parameters())
        self.ranks.add_gradients(parameters)
        for algorithm in self.algorithms:
            algorithm.on_gradients(run)
        norm = float(nn.utils.clip_grad_norm_(parameters, self._clip_norm or math.inf))
        if not math.isfinite(norm):
            raise TrainingError(f"training: the gradient is not finite at step {run.step}; {self._remedy()}")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        for algorithm in self.algorithms:
            algorithm.on_step(run)

    def _batch(self, epoch: int, index: int) -> tuple[Any, Any]:
        """Get the batch; where it cannot be had, what was trained so far is saved first."""
        try:
            return self._batches.batch(epoch, index)
        except DynnasError as error:
            if self._passes.execution is None or self._save is None:
                raise
            self._keep()
            raise type(error)(
                f"{error}\nThe training is saved up to step {self.run.step} of {self.run.total}, and goes on "
                "from there when it is started again"
            ) from error

    def _see_whole_batch(self, batch: Batch) -> None:
        """Let layers that use statistics of the batch see more than this rank's part of it."""
        if batch.ranks.count > 1 and self._plain is PLAIN:
            rows = rows_of(batch)
            self._plain = Context(GateMode(sample=rows), RouterMode(sample=rows), DropoutMode(sample=rows))
            self.model.convert(partial(convert_layers, batch=batch))

    def _chosen_execution(self) -> Execution:
        alone = self.ranks.count == 1
        left = (self.run.total - self.run.step) * self.run.accumulate
        return choose_execution(self._trial(), self._layouts, self._precisions, self._device, alone, left)

    def _trial(self) -> Trial:
        """Return the arithmetic of the current step."""
        model = self.model.trial()

        def trial(execution: Execution) -> None:
            with seeded(self.run.seed, self.run.step):
                self.run.trial = True
                networks = self._passes.networks()
                self.run.trial = False
                run_trial(model, networks, self.run.inputs, self._device, execution)

        return trial

    def _step_threads(self, execution: Execution) -> StepThreads:
        """Return the threads of this run; a checkpoint keeps their number, because rounding depends on it."""
        alone = self.ranks.count == 1
        return StepThreads(
            lambda: choose_threads(self._trial(), execution, self._device, alone),
            min(execution.threads, most_threads()),
            fixed=not alone,
        )

    def _default_identity(self) -> str:
        facts = {
            "weights": {name: list(each.shape) for name, each in self.model.module.named_parameters()},
            "task": dict(self.run.task.facts()),
            "seed": self.run.seed,
            "steps": [self.run.total, self.run.steps_per_epoch, self.run.accumulate],
            "algorithms": [state_name(each) for each in self.algorithms],
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]

    def _remedy(self) -> str:
        kept = "the last good checkpoint is kept" if self._saved else "nothing was saved yet"
        return f"lower the learning rate (train.lr, now {self._peaks[0]:g}) or set train.clip_norm; {kept}"

    @contextmanager
    def _saving_if_interrupted(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self._keep()
            raise

    def _keep(self) -> None:
        if self._save is not None and self.ranks.leads:
            self._timer.save(partial(self._save, self.checkpoint()))
            self._saved = True

    def checkpoint(self) -> Checkpoint:
        """Return the state after the last step."""
        assert self._passes.execution is not None
        assert self._threads is not None
        return Checkpoint(
            step=self.run.step,
            total=self.run.total,
            identity=self._identity,
            model=dict(self.model.module.state_dict()),
            optimizer=self.optimizer.state_dict(),
            execution=asdict(replace(self._passes.execution, threads=self._threads.count)),
            losses=list(self.losses),
            epoch_loss=self._epoch_loss,
            algorithms={state_name(each): each.state_dict() for each in self.algorithms},
        )
