"""What the gates of a network learn from, in the supernet and alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast

from torch import Tensor

from dynnas.nn.gates.costs import gate_costs
from dynnas.nn.gates.estimators import Estimator
from dynnas.nn.gates.families.channels import kept_channels
from dynnas.nn.gates.gate import Decision, decisions
from dynnas.nn.gates.policy import guesses
from dynnas.settings.settings import TrainSettings
from dynnas.space.config.network import NetworkConfig
from dynnas.training.algorithms.gate_budget import budget_loss, budget_shares
from dynnas.training.algorithms.guidance import easy_images, guidance_loss
from dynnas.training.algorithms.reinforce import reinforce
from dynnas.training.algorithms.similarity import similarity_loss
from dynnas.training.algorithms.sparsity import easiness, use_of_easy
from dynnas.training.distributed.ranks import Batch
from dynnas.training.loss import guess_loss


@dataclass(frozen=True)
class Heard:
    """What gates tell of themselves while a network runs.

    Attributes:
        decided: their decisions, in the order of `NetworkConfig.gated`.
        guessed: what the classifier of the network that they read says, (B, classes), if there is one.
        kept: of those that choose channels, what these count and hold, both (B, channels).
    """

    decided: Sequence[Decision]
    guessed: Sequence[Tensor]
    kept: Sequence[tuple[Tensor, Tensor]]


@contextmanager
def listen() -> Iterator[Heard]:
    """Hear what the gates of a network tell that this thread runs meanwhile."""
    with decisions() as decided, guesses() as guessed, kept_channels() as kept:
        yield Heard(decided, guessed, kept)


@dataclass(frozen=True)
class Outcome:
    """What became of images.

    Attributes:
        losses: of the task, (B,). logits: what the head said, (B, classes). labels: the truth, (B,).
    """

    losses: Tensor
    logits: Tensor
    labels: Tensor


def gate_loss(
    config: NetworkConfig,
    heard: Heard,
    outcome: Outcome,
    run: Callable[[], Sequence[Tensor]],
    bounds: float,
    settings: TrainSettings,
    batch: Batch,
) -> Tensor:
    """What is added to the loss of a network for its gates: ().

    Args:
        config: of the network. heard: of its gates, on this rank's part of the batch.
        outcome: what became of the images of this part.
        run: runs the network on the images once more; the last of its outputs is the head's.
        bounds: how tight those of each block are, see `dynnas.training.algorithms.gate_budget.bounds_at`.
        batch: the whole of it.
    """
    decided, losses, labels = heard.decided, outcome.losses, outcome.labels
    if not decided:
        return losses.new_zeros(())
    costs = gate_costs(config)
    easy = easiness(outcome.logits, labels, batch)
    own = settings.gate_sparsity * use_of_easy(costs, decided, easy)
    loss = settings.gate_weight * budget_loss(costs, decided, bounds, batch) + own.mean()
    if any(decision.likelihood is not None for decision in decided):
        shares = settings.gate_weight * budget_shares(costs, decided, bounds, batch) + own
        loss = loss + reinforce(decided, losses, shares, batch)
    if settings.gate_guidance:
        right = easy_images(lambda: run()[-1], labels)
        loss = loss + settings.gate_guidance * guidance_loss(decided, right)
    if settings.gate_similarity and heard.kept:
        loss = loss + settings.gate_similarity * similarity_loss(heard.kept, batch)
    return loss + guess_loss(heard.guessed, labels)


def estimator_at(settings: TrainSettings, step: int, steps_per_epoch: int) -> Estimator:
    """How gates learn at a step: in the last `gate_reinforce_epochs` by REINFORCE, whatever comes before."""
    since = (settings.epochs - settings.gate_reinforce_epochs) * steps_per_epoch
    return "reinforce" if step >= since else cast(Estimator, settings.gate_estimator)
