"""What the gates of a network learn from, in the supernet and alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from torch import Tensor

from dynnas.ops import Decision
from dynnas.ops.estimators import Estimator
from dynnas.ops.gate_costs import gate_costs
from dynnas.space import NetworkConfig, TrainSettings
from dynnas.training.budget import budget_loss, budget_shares
from dynnas.training.guidance import easy_images, guidance_loss
from dynnas.training.ranks import Batch
from dynnas.training.reinforce import reinforce


def gate_loss(
    config: NetworkConfig,
    decided: Sequence[Decision],
    losses: Tensor,
    labels: Tensor,
    run: Callable[[], Sequence[Tensor]],
    bounds: float,
    settings: TrainSettings,
    batch: Batch,
) -> Tensor:
    """What is added to the loss of a network for its gates: ().

    Args:
        config: of the network. decided: by its gates, in the order of `NetworkConfig.gated`.
        losses: of the task, for each image of this rank's part of the batch, (B,). labels: theirs, (B,).
        run: runs the network on the images once more; the last of its outputs is the head's.
        bounds: how tight those of each block are, see `dynnas.training.budget.bounds_at`.
        batch: the whole of it.
    """
    if not decided:
        return losses.new_zeros(())
    costs = gate_costs(config)
    loss = settings.gate_weight * budget_loss(costs, decided, bounds, batch)
    if any(decision.likelihood is not None for decision in decided):
        shares = settings.gate_weight * budget_shares(costs, decided, bounds, batch)
        loss = loss + reinforce(decided, losses, shares, batch)
    if settings.gate_guidance:
        easy = easy_images(lambda: run()[-1], labels)
        loss = loss + settings.gate_guidance * guidance_loss(decided, easy)
    return loss


def estimator_at(settings: TrainSettings, step: int, steps_per_epoch: int) -> Estimator:
    """How gates learn at a step: in the last `gate_reinforce_epochs` by REINFORCE, whatever comes before."""
    since = (settings.epochs - settings.gate_reinforce_epochs) * steps_per_epoch
    return "reinforce" if step >= since else cast(Estimator, settings.gate_estimator)
