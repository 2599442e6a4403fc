"""Batch-norm statistics of an extracted network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynnas.nn.networks.modes import set_execution, set_open
from dynnas.nn.networks.network import Network
from dynnas.threads import FORWARD_THREADS
from dynnas.training.batchnorm.masked import Norm, Tally

SCORING_BATCH = 256
"""Images at a time, when candidates are calibrated and scored."""


def calibrate(network: Network, images: Tensor, batch: int = SCORING_BATCH) -> Network:
    """Set the batch-norm statistics of `network` (in place) to their cumulative average over `images`.

    Shared weights have no running statistics: without this a network sliced out of a supernet classifies at
    random (US-Nets, Yu 2019, section 3.2). The network comes back in evaluation mode.

    Images that a gate keeps from a block or a channel must not count in its statistics, as they never pass
    there: a batch norm then averages over those images of a batch that do, batches weighted by how many
    these are. What no image passes has the statistics of all.

    Args:
        network: an extracted network.
        images: normalised training images [N, channels, resolution, resolution] at the network's resolution,
            on any device.
        batch: images a batch; a last batch of a single image is dropped, since it has no variance.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    network.eval()
    with FORWARD_THREADS.running(lambda: _run(network, images[:batch], batch)):
        _calibrate(network, norms, images, batch)
    return network.eval()


def _calibrate(network: Network, norms: Sequence[Norm], images: Tensor, batch: int) -> None:
    if network.config.gated:
        _calibrate_gated(network, norms, images, batch)
    else:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        _run(network, images, batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@torch.no_grad()
def _run(network: Network, images: Tensor, batch: int) -> None:
    device = next(network.parameters()).device
    for part in images.split(batch):
        if len(part) > 1 or len(images) == 1:
            network.logits(part.to(device).contiguous(memory_format=torch.channels_last))


def _calibrate_gated(network: Network, norms: Sequence[Norm], images: Tensor, batch: int) -> None:
    tallies = [Tally(norm) for norm in norms]
    set_execution(network, "counted")
    for opened in (False, True):
        set_open(network, opened)
        for norm, tally in zip(norms, tallies, strict=True):
            norm.forward = tally.count  # type: ignore[method-assign, assignment]
        _run(network, images[:batch] if opened else images, batch)
        for norm, tally in zip(norms, tallies, strict=True):
            del norm.forward
            tally.write()
        if all(tally.complete for tally in tallies):
            break
    set_open(network, False)
    set_execution(network, "masked")
