"""Batch-norm statistics of an extracted network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dynnas.ops import Network

SCORING_BATCH = 256
"""Images at a time, when candidates are calibrated and scored."""


def calibrate(network: Network, images: Tensor, batch: int = SCORING_BATCH) -> Network:
    """Set the batch-norm statistics of `network` (in place) to their cumulative average over `images`.

    Shared weights have no running statistics: without this a network sliced out of a supernet classifies at
    random (US-Nets, Yu 2019, section 3.2). The network comes back in evaluation mode.

    Args:
        network: an extracted network.
        images: normalised training images [N, channels, resolution, resolution] at the network's resolution,
            on any device.
        batch: images a batch; a last batch of a single image is dropped, since it has no variance.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    device = next(network.parameters()).device
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        for part in images.split(batch):
            if len(part) > 1 or len(images) == 1:
                network.logits(part.to(device).contiguous(memory_format=torch.channels_last))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network.eval()
