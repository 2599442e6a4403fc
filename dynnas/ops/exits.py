"""Leaving at the first confident exit: how it is decided for every image of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_confident(logits: Tensor, threshold: float) -> Tensor:
    """Whether the largest softmax of each row of logits (B, classes) reaches `threshold`: (B,) bool."""
    return torch.softmax(logits, dim=1).amax(dim=1) >= threshold


def select_confident(logits: Sequence[Tensor], thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Where each image leaves, when every exit was computed for all of the batch.

    Args:
        logits: of every exit in order, then of the head; each (B, classes).
        thresholds: of every exit.

    Returns:
        The logits (B, classes) that each image leaves with, and the index (B,) int64 of its exit (the
        number of exits for the head).
    """
    chosen = logits[-1]
    if not thresholds:
        return chosen, torch.zeros(len(chosen), dtype=torch.int64, device=chosen.device)
    # One number, which `where` spreads over the batch: the batch's size must not enter an exported graph.
    exits = torch.tensor(len(thresholds), device=chosen.device)
    # Backwards, so that the first confident exit has the last word.
    for index in reversed(range(len(thresholds))):
        leaves = is_confident(logits[index], thresholds[index])
        chosen = torch.where(leaves[:, None], logits[index], chosen)
        exits = torch.where(leaves, index, exits)
    return chosen, exits
