"""Magnitude pruning of single weights, with rewinding to early ones (lottery tickets: Frankle 2019 and 2020).

The network is trained from fresh weights, and those after `rewind` epochs are kept. When it is trained, the
share `amount` of its weights with the smallest magnitude goes; what is left is put back to the early weights
and trained on from there, along the same schedule.

What matters about early weights may be their signs alone: with `start` "signs" all that are left of a tensor
begin at one size, the deviation of its early weights (Zhou et al. 2019, arXiv:1905.01067, section 4). A
control is the early network under the mask without any training, a supermask (section 5).

With `start` "trained" the weights stay as they were trained, and the learning rate alone goes back (Renda et
al. 2020, arXiv:2003.02389). With "fresh" new ones are drawn and trained from the first epoch on: the control
of Frankle and Carbin, and of Liu et al. 2019, arXiv:1810.05270.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from functools import partial

import torch
from torch import Tensor, nn

from dynnas.compression.cluster import shared_parameters
from dynnas.compression.coded_file import read_coded, write_coded
from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.errors import TrainingError
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network
from dynnas.training.algorithm import Algorithm, Run
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.weights.files import load_network, save_network

FILE = "weights.sparse"

STARTS = ("rewound", "signs", "trained", "fresh")
"""The weights that a ticket begins with: early, their signs at one size for each tensor, trained, or new."""

REDRAWN = 1000
"""Number by which the seed of a ticket's new weights differs from that of the dense network's."""


class Mask(Algorithm):
    """Holds the weights outside of the mask at zero; its constructor sets them to zero in `network`."""

    name = "masked"

    def __init__(self, network: Network, masks: Mapping[str, Tensor]) -> None:
        self._masked: list[tuple[nn.Parameter, Tensor]] = [
            (value, masks[name]) for name, value in shared_parameters(network)
        ]
        self._apply()

    @torch.no_grad()
    def on_gradients(self, run: Run) -> None:
        for parameter, mask in self._masked:
            if parameter.grad is not None:
                parameter.grad.mul_(mask.to(parameter.device))

    def on_step(self, run: Run) -> None:
        self._apply()

    @torch.no_grad()
    def _apply(self) -> None:
        for parameter, mask in self._masked:
            parameter.mul_(mask.to(parameter.device))


def _run(source: CompressionInput) -> CompressedModel:
    amount, rewind = float(source.options["amount"]), int(source.options["rewind"])
    start, train = str(source.options["start"]), source.recipe.train
    if not 0 < rewind < train.epochs:
        raise TrainingError(f"lottery: rewinds to epoch {rewind} of {train.epochs}; give more --epochs")
    if start not in STARTS:
        raise TrainingError(f"lottery: found start {start!r}; allowed: {', '.join(STARTS)}")
    early, dense = _early_and_trained(source, rewind)
    masks = largest_weights(dense, amount)
    supermask = copy.deepcopy(early)
    Mask(supermask, masks)
    calibrate(supermask, source.calibration_images())
    begun = {"trained": dense, "fresh": source.fresh(train.seed + REDRAWN)}.get(start, early)
    ticket = copy.deepcopy(begun)
    if start == "signs":
        keep_signs(ticket)
    since = 0 if start == "fresh" else rewind
    ticket = source.tune(ticket, Mask(ticket, masks), name=f"{start} ticket", since=since)
    path = source.folder / FILE
    write_coded(ticket, path, {}, sparse=frozenset(masks))
    left = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    return CompressedModel(
        network=read_coded(path, ticket),  # what ships is what was read back
        file=path,
        controls={"dense, trained alike": dense, "early weights under the mask": supermask},
        details={"weights_left": left, "rewound_to_epoch": rewind, "start": start},
    )


def _early_and_trained(source: CompressionInput, rewind: int) -> tuple[Network, Network]:
    """Return the network after `rewind` epochs, and at the end of the same training."""
    folder = source.folder / "early"
    fresh = partial(source.fresh, source.recipe.train.seed)
    digest = folder / "digest"
    if not digest.exists():
        first = source.tune(fresh(), name="dense", until=rewind)
        save_network(first, folder)
        digest.write_text(weights_digest(first))
    early = load_network(folder / "weights.pt", digest.read_text(), fresh)
    return early, source.tune(fresh(), name="dense")


def largest_weights(network: Network, amount: float) -> dict[str, Tensor]:
    """Return a mask for each kernel, bank and matrix: 0 for the smallest share `amount` over all of them."""
    magnitudes = {name: value.detach().abs().cpu() for name, value in shared_parameters(network)}
    every = torch.cat([value.flatten() for value in magnitudes.values()])
    gone = round(amount * every.numel())
    if gone == 0:
        return {name: torch.ones_like(value) for name, value in magnitudes.items()}
    limit = every.kthvalue(gone).values
    return {name: (value > limit).float() for name, value in magnitudes.items()}


@torch.no_grad()
def keep_signs(network: Network) -> None:
    """Give all weights of a kernel, bank or matrix one size, the standard deviation of what they were."""
    for _, value in shared_parameters(network):
        value.copy_(value.sign() * value.std(correction=0))


LOTTERY = Pass(_run, {"amount": 0.8, "rewind": 1, "start": "rewound"}, start="scratch")
