"""Polarisation: scales of batch norms are driven to zero or away from it while a network is trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@register_algorithm("polarization")
@dataclass(eq=False)
class Polarization(Algorithm):
    """Polarisation regulariser (Zhuang et al. 2020, NeurIPS, equation 2): channels end as needed or as none.

    The scales g of all batch norms pay t * |g| - |g - their mean|, by their sum. Without the second term it
    is network slimming (Liu et al. 2017, arXiv:1708.06519), which pulls at all channels alike. As in the
    authors' code, scales are held between 0 and `largest`. It is for single networks: a supernet's shared
    scales are left alone.
    """

    name = "polarization"

    weight: float = setting(1e-4, "of the regulariser", minimum=0.0)
    t: float = setting(
        1.2, "weight of the scales' magnitude beside their distance from the mean", minimum=0.0
    )
    largest: float = setting(1.0, "upper bound of a scale", minimum=0.01)

    def on_start(self, run: Run) -> None:
        """Find the scales of batch norms."""
        self._scales = scales_of(run.module)

    def on_gradients(self, run: Run) -> None:
        """Add the gradient of the regulariser."""
        scales = [scale for scale in self._scales if scale.grad is not None]
        if scales and self.weight:
            paid = self.weight * polarization(scales, self.t)
            for scale, gradient in zip(scales, torch.autograd.grad(paid, scales), strict=True):
                assert scale.grad is not None
                scale.grad += gradient

    @torch.no_grad()
    def on_step(self, run: Run) -> None:
        """Hold the scales within their bounds."""
        for scale in self._scales:
            scale.clamp_(0, self.largest)


def polarization(scales: Sequence[Tensor], t: float) -> Tensor:
    """Return the sum of t * |g| - |g - mean| over all scales g, (C,) each: ()."""
    every = torch.cat(list(scales))
    return t * every.abs().sum() - (every - every.mean()).abs().sum()


def scales_of(module: nn.Module) -> list[nn.Parameter]:
    """Return the weights of all batch norms."""
    norms = (part for part in module.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm))
    return [norm.weight for norm in norms if norm.weight is not None]
