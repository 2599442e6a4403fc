"""The area under the receiver operating characteristic, by ranks."""

from __future__ import annotations

import torch
from torch import Tensor


def auroc(scores: Tensor, there: Tensor) -> float | None:
    """Return how often a score of what is there exceeds one of what is not, ties counting half.

    That is the area under the curve (Mann and Whitney's U, Hanley and McNeil 1982).

    Args:
        scores: (N,). there: (N,) bool.

    Returns:
        From 0 to 1; None where all or none are there.
    """
    positives = int(there.sum())
    negatives = len(there) - positives
    if not positives or not negatives:
        return None
    values, group = scores.double().unique(return_inverse=True)
    counts = torch.bincount(group, minlength=len(values)).double()
    ranks = (counts.cumsum(0) - (counts - 1) / 2)[group]  # of equal scores their mean
    above = ranks[there].sum() - positives * (positives + 1) / 2
    return float(above / (positives * negatives))


def mean_auroc(scores: Tensor, there: Tensor) -> float:
    """Return the mean over columns (N, C) that have both; 0.5, as by chance, if none has.

    Args:
        scores: (N, C). there: (N, C) bool.
    """
    found = [auroc(scores[:, column], there[:, column]) for column in range(scores.shape[1])]
    known = [each for each in found if each is not None]
    return sum(known) / len(known) if known else 0.5
