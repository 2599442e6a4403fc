"""Alpha-divergences between distributions, for distillation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_NEAR = 1e-3
"""Distance from 0 and 1, where the divergence is one of Kullback and Leibler's, from which on it counts."""


def alpha_divergence(student: Tensor, teacher: Tensor, alpha: float, clip: float) -> Tensor:
    """Return the alpha-divergence of each student's distribution from its teacher's: (B, ...).

    D(p, q) = sum_i q_i (w_i^alpha - 1) / (alpha (alpha - 1)), with w = p / q, p of the teacher, q of the
    student. At alpha 1 it is KL(p, q), at alpha 0 KL(q, p). Its gradient is that of AlphaNet (Wang et al.
    2021, arXiv:2102.07954, section 4): the importance weights w^alpha are clipped, and count as constants in
    sum_i w_i^alpha / alpha grad q_i, so that rare classes do not make it explode.

    Args:
        student, teacher: logarithms of probabilities, (B, C, ...), which axis 1 adds up.
        clip: largest importance weight w^alpha, or w at alpha 0; at alpha 1 none is needed.
    """
    ratio, share = (teacher - student).detach(), student.detach().exp()
    if abs(alpha - 1) < _NEAR:
        weight = ratio.exp()
        terms, slope = weight * ratio, weight
    elif abs(alpha) < _NEAR:
        ratio = ratio.clamp(max=math.log(clip))
        terms, slope = -ratio, ratio
    else:
        weight = (alpha * ratio).exp().clamp(max=clip)
        terms, slope = (weight - 1) / (alpha * (alpha - 1)), weight / alpha
    value = (share * terms).sum(1)
    moving = -(share * slope * student).sum(1)
    return value + moving - moving.detach()


def adaptive_divergence(student: Tensor, teacher: Tensor, alphas: Sequence[float], clip: float) -> Tensor:
    """Return the largest of several alpha-divergences of each distribution: (B, ...).

    AlphaNet takes the larger of two, at -1 and 1: the first punishes a student that believes in what its
    teacher rules out, the second one that rules out what its teacher believes in.
    """
    found = torch.stack([alpha_divergence(student, teacher, alpha, clip) for alpha in alphas])
    return found.gather(0, found.detach().argmax(0, keepdim=True))[0]
