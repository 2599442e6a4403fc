"""Mutual learning: the networks of a step teach one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("mutual_learning")
@dataclass(eq=False)
class MutualLearning(Algorithm):
    """Each network of a step also learns from those before it (Zhang et al. 2018, arXiv:1706.00384).

    The mean loss against their outputs is added, as for a cohort in section 3.3. There each network also
    learns from those after it, whose outputs are computed for that; here their turn comes in other steps.
    It is meant in the place of `in_place_distillation`, where only the largest network teaches.
    """

    name = "mutual_learning"

    weight: float = setting(1.0, "of the loss against the other networks", minimum=0.0)

    def on_start(self, run: Run) -> None:
        """Begin without peers."""
        self._peers: list[Tensor] = []

    def on_batch(self, run: Run, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Forget what networks said about other images."""
        self._peers = []
        return inputs, targets

    def output_loss(self, run: Run, forward: Forward, output: Tensor, loss: Tensor) -> Tensor:
        """Add the mean loss against the peers to the loss (B,) so far."""
        if not self._peers or not self.weight:
            return loss
        taught = [run.task.distill(output, peer) for peer in self._peers]
        return loss + self.weight * torch.stack(taught).mean(0)

    def after_loss(self, run: Run, forward: Forward) -> None:
        """Make the network a peer of those that follow."""
        if forward.network.teaches:
            self._peers.append(forward.output.detach())
