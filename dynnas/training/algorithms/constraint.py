"""What may be asked of the weights while a network is trained, and the usual case that nothing is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from dynnas.nn.kernels.kernel import Kernel
from dynnas.nn.networks.network import Network


class Constraint:
    """Weights that are free. A pass or a kind of weights overrides what it needs.

    All that a constraint keeps must follow from the weights that it was made of, so that an interrupted
    training can make it again.
    """

    name = "real"

    @contextmanager
    def forward(self) -> Iterator[None]:
        """The weights with which a step runs forward and backward; left, the trained ones are back."""
        yield

    def gradients(self) -> None:
        """Change the gradients before the optimizer sees them."""

    def weights(self) -> None:
        """Put the weights right after a step."""

    def finish(self) -> None:
        """Turn the trained weights into those that ship."""


class Binary(Constraint):
    """BinaryConnect (Courbariaux 2015, algorithm 1): signs run forward and backward, real weights move.

    The real weights stay between -1 and 1, so that none drifts too far to change its sign again.

    For the convolution kernels of `network` but the stem's: it and the classifiers stay real, as in XNOR-Net
    (Rastegari 2016). The batch norm behind every convolution gives the scale that a sign has lost.
    """

    name = "binary"

    def __init__(self, network: Network) -> None:
        self.kernels = binary_kernels(network)

    @contextmanager
    def forward(self) -> Iterator[None]:
        real = [kernel.detach().clone() for kernel in self.kernels]
        self.finish()
        try:
            yield
        finally:
            with torch.no_grad():
                for kernel, weight in zip(self.kernels, real, strict=True):
                    kernel.copy_(weight)

    @torch.no_grad()
    def weights(self) -> None:
        for kernel in self.kernels:
            kernel.clamp_(-1, 1)

    @torch.no_grad()
    def finish(self) -> None:
        for kernel in self.kernels:
            kernel.copy_(torch.where(kernel >= 0, 1.0, -1.0))  # a weight of 0 has a sign too


def binary_kernels(network: Network) -> Sequence[nn.Parameter]:
    """The kernels and banks that `Binary` makes binary."""
    found: list[nn.Parameter] = []
    for slot, module in network.slots.items():
        if slot == "stem":
            continue
        convolutions = (part for part in module.modules() if isinstance(part, Kernel))
        found += [part.weight for part in convolutions if isinstance(part.weight, nn.Parameter)]
    return found
