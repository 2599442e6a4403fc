"""Magnitude pruning of single weights, with rewinding to early ones (lottery tickets: Frankle 2019 and 2020).

The network is trained from fresh weights, and those after `rewind` epochs are kept. When it is trained, the
share `amount` of its weights with the smallest magnitude goes; what is left is put back to the early weights
and trained on from there, along the same schedule.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from dynnas.compression.cluster import shared_parameters
from dynnas.compression.coded_file import read_coded, write_coded
from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.errors import TrainingError
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.networks.network import Network
from dynnas.training.algorithm import Algorithm, Run
from dynnas.training.train_network import fresh_network
from dynnas.training.weights_io import load_network, save_network

FILE = "weights.sparse"


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
    epochs = source.recipe.train.epochs
    if not 0 < rewind < epochs:
        raise TrainingError(f"lottery: rewinds to epoch {rewind} of {epochs}; give more --epochs")
    config, seed = source.network.config, source.recipe.train.seed
    folder = source.folder / "early"
    digest = folder / "digest"
    if not digest.exists():
        first = source.tune(fresh_network(config, seed), name="dense", until=rewind)
        save_network(first, folder)
        digest.write_text(weights_digest(first))
    early = load_network(folder / "weights.pt", digest.read_text())
    dense = source.tune(fresh_network(config, seed), name="dense")
    masks = largest_weights(dense, amount)
    mask = Mask(early, masks)
    ticket = source.tune(early, mask, name="ticket", since=rewind)
    path = source.folder / FILE
    write_coded(ticket, path, {}, sparse=frozenset(masks))
    left = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    return CompressedModel(
        network=read_coded(path),  # what ships is what was read back
        file=path,
        controls={"dense, trained alike": dense},
        details={"weights_left": left, "rewound_to_epoch": rewind},
    )


def largest_weights(network: Network, amount: float) -> dict[str, Tensor]:
    """Return a mask for each kernel, bank and matrix: 0 for the smallest share `amount` over all of them."""
    magnitudes = {name: value.detach().abs().cpu() for name, value in shared_parameters(network)}
    every = torch.cat([value.flatten() for value in magnitudes.values()])
    gone = round(amount * every.numel())
    if gone == 0:
        return {name: torch.ones_like(value) for name, value in magnitudes.items()}
    limit = every.kthvalue(gone).values
    return {name: (value > limit).float() for name, value in magnitudes.items()}


LOTTERY = Pass(_run, {"amount": 0.8, "rewind": 1}, start="scratch")
