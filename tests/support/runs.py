"""Runs and networks' outputs for tests of algorithms, without a training."""

import torch
from torch import nn

from dynnas.nn.context import Trace
from dynnas.tasks.builtin.classification import Classification
from dynnas.training.algorithm import Forward, Pass, Run
from dynnas.training.distributed.ranks import Batch
from dynnas.training.models import model_of


def run_of(algorithms=(), targets=None, total=100, steps_per_epoch=10, step=0, model=None, seed=0):
    """A run at a step, with these targets; its algorithms have been started."""
    model = model_of(model or nn.Linear(1, 1))
    task = Classification()
    run = Run(model, task, list(algorithms), seed, total, steps_per_epoch, None, step=step)
    if targets is not None:
        run.targets, run.batch = targets, Batch.whole(len(targets))
    for algorithm in algorithms:
        algorithm.on_start(run)
    return run


def forward_of(outputs, trace=None, costs=(), exits=(), again=None):
    """A network's run with these outputs."""
    return Forward(Pass(), outputs, exits, trace or Trace(), lambda: costs, again, None)


def loss_of(run, forward):
    """The mean loss of a network by a run's algorithms, without penalties; (B,) is left in `forward`."""
    for algorithm in run.algorithms:
        algorithm.before_loss(run, forward)
    losses = run.output_loss(forward, forward.output)
    for algorithm in run.algorithms:
        losses = algorithm.loss(run, forward, losses)
    forward.losses = losses
    for algorithm in run.algorithms:
        algorithm.after_loss(run, forward)
    return losses.mean()


def penalty_of(run, forward):
    """The sum of all penalties."""
    found = [algorithm.penalty(run, forward) for algorithm in run.algorithms]
    return sum((each for each in found if each is not None), torch.zeros(()))
