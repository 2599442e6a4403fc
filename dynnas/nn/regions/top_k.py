"""The largest k of some scores, with a gradient: perturbed top-k."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _PerturbedTopK(torch.autograd.Function):
    """The mean of the indicators of noisy top-k, and the gradient that its smoothing has."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, noise: Tensor, k: int, sigma: float) -> Tensor:
        """Map scores (B, N) and noise (B, S, N) to (B, k, N)."""
        noisy = scores[:, None] + sigma * noise
        places = noisy.topk(k, dim=2).indices.sort(dim=2).values
        drawn = torch.nn.functional.one_hot(places, scores.shape[1]).to(scores.dtype)  # (B, S, k, N)
        ctx.save_for_backward(drawn, noise)
        ctx.sigma = sigma
        return drawn.mean(1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        """Map a gradient (B, k, N) to that of the scores, (B, N)."""
        drawn, noise = ctx.saved_tensors
        along = torch.einsum("bkn,bskn->bs", gradients[0], drawn)
        return torch.einsum("bs,bsn->bn", along, noise) / (noise.shape[1] * ctx.sigma), None, None, None


def perturbed_top_k(scores: Tensor, k: int, noise: Tensor, sigma: float) -> Tensor:
    """Return indicators of the k largest scores, smoothed by noise: (B, k, N), rows sum to 1.

    Each row is the mean of one place of the top-k over draws of noise, in the order of places; its gradient
    is the mean of the draws' indicators times their noise over sigma (Cordonnier et al. 2021,
    arXiv:2104.03059, equations 4 and 5; Berthet et al. 2020, arXiv:2002.08676).

    Args:
        scores: (B, N). k: how many are chosen.
        noise: (B, S, N) of standard normal numbers: S draws.
        sigma: of the noise, above 0.
    """
    found: Tensor = _PerturbedTopK.apply(scores, noise, k, sigma)
    return found


def top_k_places(scores: Tensor, k: int) -> Tensor:
    """Return the places of the k largest of scores (B, N), in order: (B, k) int64."""
    return scores.topk(k, dim=1).indices.sort(dim=1).values
