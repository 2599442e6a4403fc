"""The calibration of batch norms: statistics of an extracted network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from dynnas.nn.context import Context, supplied
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import Network
from dynnas.threads import FORWARD_THREADS
from dynnas.training.batchnorm.masked import MaskedBatchNorm, Norm

SCORING_BATCH = 256
"""Number of images at a time, when candidates are calibrated and scored."""


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
        _calibrate_gated(network, images, batch)
    else:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        with supplied(network, Context(GateMode("counted"))):  # all images pass all exits
            _run(network, images, batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@torch.no_grad()
def _run(network: Network, images: Tensor, batch: int) -> None:
    device = next(network.parameters()).device
    for part in images.split(batch):
        if len(part) > 1 or len(images) == 1:
            network.logits(part.to(device).contiguous(memory_format=torch.channels_last))


def _calibrate_gated(network: Network, images: Tensor, batch: int) -> None:
    copied, norms = _with_masked_norms(network)
    for choice in ("gate", "all"):
        with supplied(copied, Context(GateMode("counted", choice))):
            _run(copied, images[:batch] if choice == "all" else images, batch)
        for norm in norms:
            norm.write()
        if all(norm.complete for norm in norms):
            break


def _with_masked_norms(network: Network) -> tuple[Network, list[MaskedBatchNorm]]:
    """Return a copy with other batch norms, which write into those of `network`."""
    tensors = chain(network.parameters(), network.buffers())
    copied = copy.deepcopy(network, {id(tensor): tensor for tensor in tensors})
    masked: dict[nn.Module, MaskedBatchNorm] = {}
    for parent in list(copied.modules()):
        for name, child in parent.named_children():
            if isinstance(child, Norm):
                parent.add_module(name, masked.setdefault(child, MaskedBatchNorm(child)))
    return copied, list(masked.values())
