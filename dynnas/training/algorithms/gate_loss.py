"""What the gates of a network learn from, in the supernet and alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from dynnas.nn.context import Trace
from dynnas.nn.gates.costs import gate_costs
from dynnas.nn.gates.families.channels import KeptChannels
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import Estimator
from dynnas.nn.gates.policy import PolicyLogits
from dynnas.settings.settings import TrainSettings
from dynnas.space.config.network import NetworkConfig
from dynnas.tasks.task import Task
from dynnas.training.algorithms.gate_budget import budget_loss, budget_shares
from dynnas.training.algorithms.guidance import easy_images, guidance_loss
from dynnas.training.algorithms.reinforce import reinforce
from dynnas.training.algorithms.similarity import similarity_loss
from dynnas.training.algorithms.sparsity import easiness, use_of_easy
from dynnas.training.distributed.ranks import Batch
from dynnas.training.loss import guess_loss

RECORDS = (Decision, PolicyLogits, KeptChannels)
"""What `gate_loss` reads in a trace."""


@dataclass(frozen=True)
class Outcome:
    """What became of images.

    Attributes:
        losses: by which they are trained, (B,). output: of the head, (B, ...). targets: (B, ...).
        task: what output and targets mean.
    """

    losses: Tensor
    output: Tensor
    targets: Tensor
    task: Task


def gate_loss(
    config: NetworkConfig,
    trace: Trace,
    outcome: Outcome,
    run: Callable[[], Sequence[Tensor]],
    bounds: float,
    settings: TrainSettings,
    batch: Batch,
) -> Tensor:
    """What is added to the loss of a network for its gates: ().

    Args:
        config: of the network. trace: of its run on this rank's part of the batch.
        outcome: what became of the images of this part.
        run: runs the network on the images once more, with the cheapest choices; the last of its outputs is
            the head's.
        bounds: how tight those of each block are, see `dynnas.training.algorithms.gate_budget.bounds_at`.
        batch: the whole of it.
    """
    task, targets = outcome.task, outcome.targets
    decided, losses = trace.of(Decision), outcome.losses
    if not decided:
        return losses.new_zeros(())
    costs = gate_costs(config)
    with torch.no_grad():
        easy = easiness(task.loss(outcome.output, targets), batch)
    own = settings.gate_sparsity * use_of_easy(costs, decided, easy)
    loss = settings.gate_weight * budget_loss(costs, decided, bounds, batch) + own.mean()
    if any(decision.likelihood is not None for decision in decided):
        shares = settings.gate_weight * budget_shares(costs, decided, bounds, batch) + own
        loss = loss + reinforce(decided, losses, shares, batch)
    if settings.gate_guidance:
        right = easy_images(lambda: task.quality(run()[-1], targets))
        loss = loss + settings.gate_guidance * guidance_loss(decided, right)
    kept = [(each.weights, each.held) for each in trace.of(KeptChannels)]
    if settings.gate_similarity and kept:
        loss = loss + settings.gate_similarity * similarity_loss(kept, batch)
    return loss + guess_loss([each.logits for each in trace.of(PolicyLogits)], targets, task)


def estimator_at(settings: TrainSettings, step: int, steps_per_epoch: int) -> Estimator:
    """How gates learn at a step: in the last `gate_reinforce_epochs` by REINFORCE, whatever comes before."""
    since = (settings.epochs - settings.gate_reinforce_epochs) * steps_per_epoch
    return "reinforce" if step >= since else cast(Estimator, settings.gate_estimator)
