"""Binary weights: kernels of signs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from dynnas.nn.kernels.kernel import Kernel
from dynnas.training.algorithm import Algorithm, Run, register_algorithm


@register_algorithm("binary_weights")
@dataclass(eq=False)
class BinaryWeights(Algorithm):
    """BinaryConnect (Courbariaux et al. 2015, arXiv:1511.00363, algorithm 1): signs run, real weights move.

    The real weights stay between -1 and 1, so that none drifts too far to change its sign again.

    For the convolution kernels of a network but the stem's: it and the classifiers stay real, as in XNOR-Net
    (Rastegari et al. 2016, arXiv:1603.05279). The batch norm behind every convolution gives the scale that a
    sign has lost.
    """

    name = "binary_weights"

    def on_start(self, run: Run) -> None:
        """Find the kernels."""
        self.kernels = binary_kernels(run.module)

    @contextmanager
    def weights(self, run: Run) -> Iterator[None]:
        """Run with signs."""
        with restored(self.kernels):
            self._sign()
            yield

    @torch.no_grad()
    def on_step(self, run: Run) -> None:
        """Clip the real weights."""
        for kernel in self.kernels:
            kernel.clamp_(-1, 1)

    def on_finish(self, run: Run) -> None:
        """Keep the signs."""
        self._sign()

    @torch.no_grad()
    def _sign(self) -> None:
        for kernel in self.kernels:
            kernel.copy_(torch.where(kernel >= 0, 1.0, -1.0))  # a weight of 0 has a sign too


def binary_kernels(module: nn.Module) -> Sequence[nn.Parameter]:
    """Return the kernels and banks that `BinaryWeights` makes binary: all but those of a stem."""
    return [
        part.weight
        for name, part in module.named_modules()
        if isinstance(part, Kernel)
        and isinstance(part.weight, nn.Parameter)
        and not name.startswith("slots.stem.")
    ]


@contextmanager
def restored(kernels: Sequence[nn.Parameter]) -> Iterator[None]:
    """Give kernels that are changed inside the values back that they had before."""
    real = [kernel.detach().clone() for kernel in kernels]
    try:
        yield
    finally:
        with torch.no_grad():
            for kernel, weight in zip(kernels, real, strict=True):
                kernel.copy_(weight)
