"""Accuracy of a finished network, each image leaving where it would leave."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dynnas.data import Dataset, resize
from dynnas.ops import Network, select_confident
from dynnas.runtime import Finished
from dynnas.training.calibrate import SCORING_BATCH


@dataclass(frozen=True)
class Accuracy:
    """Share of images labelled right (0..1), and the share that leaves at each exit, then at the head."""

    top1: float
    exit_shares: tuple[float, ...]


def prepare_images(network: Finished, dataset: Dataset, images: Tensor) -> Tensor:
    """Images uint8 [B, C, H, W] as `network` takes them: float32, normalised, resized, on its device."""
    device = next(network.parameters()).device
    return resize(dataset.normalise(images.to(device)), network.config.resolution)


@torch.inference_mode()
def predict_logits(
    network: Network, dataset: Dataset, images: Tensor, batch: int = SCORING_BATCH
) -> tuple[Tensor, ...]:
    """Logits [N, classes] of every exit, then of the head, for images uint8 [N, C, H, W].

    The network must be in eval mode, its batch norm calibrated.
    """
    batches = []
    for part in images.split(batch):
        x = prepare_images(network, dataset, part)
        # Three times as fast on a CPU.
        batches.append(network.logits(x.contiguous(memory_format=torch.channels_last)))
    return tuple(torch.cat(logits) for logits in zip(*batches, strict=True))


def accuracy(
    network: Network, dataset: Dataset, split: Literal["train", "search", "test"] = "search"
) -> Accuracy:
    """Accuracy in float32 on a split of `dataset`; thresholds of exits are those of the network's config.

    The network must be in eval mode, its batch norm calibrated.
    """
    part = getattr(dataset, split)
    logits = predict_logits(network, dataset, part.images)
    thresholds = [place.threshold for place in network.config.exits]
    chosen, exits = select_confident(logits, thresholds)
    right = chosen.argmax(dim=1) == part.labels.to(chosen.device)
    counts = torch.bincount(exits, minlength=len(logits))
    return Accuracy(right.float().mean().item(), tuple((counts / len(exits)).tolist()))
