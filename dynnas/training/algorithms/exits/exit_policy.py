"""Policies of exits learn when an image is to leave, by its loss at each exit and a price for what is run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.exits.policy_exits import Stops, log_stops
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("exit_policy")
@dataclass(eq=False)
class ExitPolicy(Algorithm):
    """Policies of exits imitate the best distribution over exits, which knows each image's loss at each.

    Learning to stop (Chen et al. 2020, arXiv:2006.05082): with the losses l_k of an image at the exits and
    the price c_k of what is run up to there, the distribution q* = softmax(-(l_k + c_k) / temperature) makes
    the mean loss and price least, without temperature times its entropy (the optimal posterior of section
    4.1, whose prior falls with the price). The policies learn by the cross entropy of theirs to q* (the
    imitation of section 4.2); exits and stages do not learn by it. There the prior is uniform: without a
    price images leave where they are told best. It does nothing where exits have no policies.
    """

    name = "exit_policy"
    records = (Stops,)

    weight: float = setting(1.0, "of the loss of policies", minimum=0.0)
    price: float = setting(0.5, "of running the whole network, in losses; a part costs a share", minimum=0.0)
    temperature: float = setting(0.1, "of the distribution over exits; 0.01 takes the best", minimum=0.01)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the loss of policies, where there are some."""
        logits = _logits(forward)
        if logits is None:
            return None
        with torch.no_grad():
            loss = run.loss_of(run.task)
            losses = torch.stack([loss(output, run.targets) for output in forward.outputs], dim=1)
            macs = run.model.exit_macs(forward.network.architecture, run.inputs)
            prices = losses.new_tensor([self.price * each / macs[-1] for each in macs])
            best = best_stops(losses, prices, self.temperature)
        return self.weight * -(best * log_stops(logits)).sum(1).mean()


def best_stops(losses: Tensor, prices: Tensor, temperature: float) -> Tensor:
    """Return the distribution over exits with the least mean loss and price, (B, exits + 1).

    Args:
        losses: of each image at each exit, (B, exits + 1). prices: of each exit, (exits + 1,).
        temperature: what the entropy of the distribution counts.
    """
    return (-(losses + prices) / temperature).softmax(dim=1)


def _logits(forward: Forward) -> Tensor | None:
    """Return the logits of stopping at each exit (B, exits), of a container or of a staged network."""
    found: Sequence[Stops] = forward.trace.of(Stops)
    if len(found) == 1 and len(forward.outputs) == found[0].logits.shape[1] + 1:
        return found[0].logits.float()
    places = [place.criterion == "policy" for place in forward.exits]
    if not places or not all(places):
        return None
    return torch.stack([output[:, -1] for output in forward.raw[:-1]], dim=1)
