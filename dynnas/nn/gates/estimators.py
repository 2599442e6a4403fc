"""How a gate that learns decides: a hard choice that gradients can pass.

Without training a gate takes its largest logit, and nothing is random.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Estimator = Literal["gumbel", "straight", "soft", "reinforce"]
"""`gumbel`: a draw by the logits' softmax (Gumbel straight-through: Jang et al. 2017, arXiv:1611.01144);
`straight`: the largest logit, with the softmax's gradient (straight-through: Bengio et al. 2013,
arXiv:1308.3432); `soft`: the softmax itself, while training; `reinforce`: a draw that no gradient passes, to
learn from what came of it (Williams 1992): see `dynnas.training.algorithms.reinforce`."""

LEAST_NOISE = 0.5
"""Of gates that learn by `reinforce`: without draws there is nothing to learn from."""


class GumbelNoise(nn.Module):
    """Standard Gumbel noise from torch's generator; a module, so that ranks can draw it together."""

    def forward(self, logits: Tensor) -> Tensor:
        """Noise of the shape (B, A) of `logits`."""
        return draw_gumbel(tuple(logits.shape), logits)


def draw_gumbel(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard Gumbel noise of a shape, on the device of `like`."""
    uniform = torch.rand(shape, device=like.device).clamp(1e-6, 1 - 1e-6)
    return -torch.log(-torch.log(uniform))


class NormalNoise(nn.Module):
    """Standard normal noise from torch's generator; a module, so that ranks can draw it together."""

    def forward(self, logits: Tensor) -> Tensor:
        """Noise of the shape (B, A) of `logits`."""
        return draw_normal(tuple(logits.shape), logits)


def draw_normal(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Standard normal noise of a shape, on the device of `like`."""
    return torch.randn(shape, device=like.device)


class Chooser(nn.Module):
    """One of A alternatives, as a row that is 1 there and 0 elsewhere.

    `gate_noise` scales the Gumbel noise: 1 draws by the softmax of the logits. While a training goes on it
    falls to 0 (`dynnas.training`), so that the gates end as they will decide: a gate that runs a block for
    each image with probability 0.7 would run it for all of them in the finished network.
    """

    gate_noise: Tensor

    def __init__(self) -> None:
        """Gumbel straight-through at temperature 1."""
        super().__init__()
        self.register_buffer("gate_noise", torch.ones(()))
        self.estimator: Estimator = "gumbel"
        self.temperature = 1.0
        self.noise = GumbelNoise()

    def forward(self, logits: Tensor) -> Tensor:
        """Logits (B, ..., A) to rows that sum to 1; exactly 0 and 1, except for `soft` in training."""
        if not self.training:
            return _hard(logits)
        if self.estimator == "reinforce":
            return _hard(self._policy(logits) + self.noise(logits))
        if self.estimator == "gumbel":
            logits = logits + self.gate_noise * self.noise(logits)
        soft = torch.softmax(logits / self.temperature, dim=-1)
        if self.estimator == "soft":
            return soft
        return _hard(soft) + (soft - soft.detach())  # the bracket is 0, with the softmax's gradient

    def likelihood(self, logits: Tensor, rows: Tensor) -> Tensor | None:
        """The logarithm of the probability that each image's rows (B, ..., A) were drawn from logits: (B,).

        None where there is no draw to learn from.
        """
        if not self.training or self.estimator != "reinforce":
            return None
        each = rows.detach() * torch.log_softmax(self._policy(logits), dim=-1)
        return each.flatten(1).sum(1)

    def _policy(self, logits: Tensor) -> Tensor:
        """Logits of what `reinforce` draws from: the less noise, the more alike are draws."""
        return logits / (self.temperature * self.gate_noise.clamp(min=LEAST_NOISE))


def _hard(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)


def top_k(logits: Tensor, k: int) -> Tensor:
    """The `k` largest of each row of (B, C), the others 0; gradients reach those that are kept."""
    kept = torch.zeros_like(logits).scatter(1, logits.topk(k, dim=1).indices, 1.0)
    return logits * kept
