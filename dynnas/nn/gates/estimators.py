"""Gradient estimators: a hard choice that gradients can pass.

Without training a gate takes its largest logit, and nothing is random.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.context import PLAIN, Context, Contextual
from dynnas.nn.gates.mode import GateMode

LEAST_NOISE = 0.5
"""Minimum noise of gates that learn by `reinforce`: without draws there is nothing to learn from."""


def draw_gumbel(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draw standard Gumbel noise of any shape, on the device of `like`."""
    uniform = torch.rand(shape, device=like.device).clamp(1e-6, 1 - 1e-6)
    return -torch.log(-torch.log(uniform))


def draw_normal(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Draw standard normal noise of any shape, on the device of `like`."""
    return torch.randn(shape, device=like.device)


class Chooser(Contextual):
    """Choose one of A alternatives, as a row that is 1 there and 0 elsewhere, by the `GateMode`.

    While a training goes on its noise falls to 0 (`dynnas.training`), so that the gates end as they will
    decide: a gate that runs a block for each image with probability 0.7 would run it for all of them in the
    finished network.
    """

    def forward(self, logits: Tensor, *, context: Context | None = None) -> Tensor:
        """Map logits (B, ..., A) to rows that sum to 1.

        They are exactly 0 and 1, except for `soft` and `semhash` in training.
        """
        if not self.training:
            return _hard(logits)
        mode = (context or self.context)[GateMode]
        if mode.estimator == "reinforce":
            return _hard(_policy(logits, mode) + mode.sample(draw_gumbel, logits))
        if mode.estimator == "gumbel":
            logits = logits + mode.noise * mode.sample(draw_gumbel, logits)
        if mode.estimator == "semhash":
            return _semantic_hash(logits, mode)
        soft = torch.softmax(logits / mode.temperature, dim=-1)
        if mode.estimator == "soft":
            return soft
        return _hard(soft) + (soft - soft.detach())  # the bracket is 0, with the softmax's gradient

    def likelihood(self, logits: Tensor, rows: Tensor, context: Context = PLAIN) -> Tensor | None:
        """Return the log probability (B,) that each image's rows (B, ..., A) were drawn from logits.

        None where there is no draw to learn from.
        """
        mode = context[GateMode]
        if not self.training or mode.estimator != "reinforce":
            return None
        each = rows.detach() * torch.log_softmax(_policy(logits, mode), dim=-1)
        return each.flatten(1).sum(1)


def _policy(logits: Tensor, mode: GateMode) -> Tensor:
    """Return the logits that `reinforce` draws from: the less noise, the more alike are draws."""
    return logits / (mode.temperature * max(mode.noise, LEAST_NOISE))


def _semantic_hash(logits: Tensor, mode: GateMode) -> Tensor:
    """Return rows of a saturating softmax for half of the images, and their largest for the others.

    Of two alternatives it is the saturating sigmoid max(0, min(1, 1.2 sigmoid(v) - 0.1)) of the difference v
    of their logits (section 2.1), with standard normal noise; of more, their softmax saturates. All rows have
    the gradient of the saturating ones. Without noise all of them are the largest.
    """
    spread = mode.noise * 0.5**0.5
    soft = torch.softmax((logits + spread * mode.sample(draw_normal, logits)) / mode.temperature, dim=-1)
    soft = (1.2 * soft - 0.1).clamp(0, 1)
    soft = soft / soft.sum(-1, keepdim=True)
    hard = _hard(soft) + (soft - soft.detach())  # the bracket is 0, with its gradient
    if not mode.noise:
        return hard
    coin = mode.sample(draw_normal, logits[..., :1])
    return torch.where(coin > 0, soft, hard)


def _hard(logits: Tensor) -> Tensor:
    return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)


def top_k(logits: Tensor, k: int) -> Tensor:
    """Return the `k` largest of each row of (B, C) and 0 for the others.

    Gradients reach those that are kept.
    """
    kept = torch.zeros_like(logits).scatter(1, logits.topk(k, dim=1).indices, 1.0)
    return logits * kept
