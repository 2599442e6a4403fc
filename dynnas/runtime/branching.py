"""Leaving at the first confident exit: how it is decided, and how one image does it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynnas.ops import Network, Segment


def is_confident(logits: Tensor, threshold: float) -> Tensor:
    """Whether the largest softmax of each row of logits (B, classes) reaches `threshold`: (B,) bool."""
    return torch.softmax(logits, dim=1).amax(dim=1) >= threshold


def first_confident(segments: Sequence[Segment], x: Tensor) -> tuple[Tensor, int]:
    """Run one image (1, C, R, R) up to its exit and no further: logits (1, classes), index of the exit."""
    for index, segment in enumerate(segments):
        x = segment.body(x)
        logits = segment.classifier(x)
        if segment.threshold is None or is_confident(logits, segment.threshold):
            return logits, index
    raise ValueError("the last segment of a network has no threshold")


def select_confident(logits: Sequence[Tensor], thresholds: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The same decision for a batch of which everything was computed.

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


class MaskedNetwork(nn.Module):
    """All of a network on images (B, channels, R, R): what a batch of any size ships as.

    Gives the logits (B, classes) that each image leaves with and, with exits, the index (B,) of its exit.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits = self.network.logits(image)
        exits = self.network.config.exits
        return select_confident(logits, [place.threshold for place in exits]) if exits else logits[0]
