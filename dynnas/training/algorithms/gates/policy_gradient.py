"""The policy gradient of layers that draw what they do next, such as where to look or how far to jump."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.nn.gates.draw import Draw
from dynnas.training.algorithm import Algorithm, Forward, Run, register_algorithm, setting


@register_algorithm("policy_gradient")
@dataclass(eq=False)
class PolicyGradient(Algorithm):
    """Layers that draw learn by the reward of an image, held against what they expected.

    The rule of the recurrent attention model (Mnih et al. 2014, arXiv:1406.6247, equation 8): the gradient of
    the mean reward R over draws is the mean of sum_t (R - b_t) grad log p_t, and each b_t, which knows what
    was known before draw t, learns by (R - b_t)^2. R is the quality of the last answer, 1 where it is right,
    without `price` times the work that draws led to. It does nothing where nothing is drawn; gates have
    `reinforce`.
    """

    name = "policy_gradient"
    records = (Draw,)

    weight: float = setting(1.0, "of the policy gradient", minimum=0.0)
    baseline: float = setting(1.0, "of the loss by which rewards are learned to be expected", minimum=0.0)
    price: float = setting(0.0, "of all work, in rewards; half of the work costs half of it", minimum=0.0)

    def penalty(self, run: Run, forward: Forward) -> Tensor | None:
        """Return the loss of what was expected, with the policy gradient, where something was drawn."""
        draws = forward.trace.of(Draw)
        if not draws:
            return None
        with torch.no_grad():
            reward = run.task.quality(forward.output, run.targets).to(draws[0].expected.dtype)
            for draw in draws:
                reward = reward if draw.cost is None else reward - self.price * draw.cost
        policy, error = policy_loss(draws, reward)
        return self.weight * (policy - policy.detach()) + self.baseline * error


def policy_loss(draws: Sequence[Draw], reward: Tensor) -> tuple[Tensor, Tensor]:
    """Return a loss () with the policy gradient of draws, and the squared error () of what they expected.

    Args:
        draws: of a batch, in order. reward: of each image, (B,), without gradient.
    """
    policy = error = reward.new_zeros(())
    for draw in draws:
        better = reward - draw.expected
        drawn = torch.ones_like(reward) if draw.drawn is None else draw.drawn
        policy = policy - (drawn * better.detach() * draw.likelihood).mean()
        error = error + (drawn * better.square()).mean()
    return policy, error / len(draws)
