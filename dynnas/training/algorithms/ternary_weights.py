"""Ternary weights: kernels of two learned numbers and zero."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting
from dynnas.training.algorithms.binary_weights import binary_kernels, restored


@register_algorithm("ternary_weights")
@dataclass(eq=False)
class TernaryWeights(Algorithm):
    """Trained ternary quantisation (Zhu et al. 2017, arXiv:1612.01064): kernels of -n, 0 and p run.

    A weight is 0 while its magnitude is at most `threshold` of the kernel's largest (equation 9); p and n are
    learned for each kernel, from 1 on as in the authors' code, by the sums of the gradients of their weights
    (equation 7). Real weights move by the gradient of the ternary ones, times p or n where they are not zero
    (equation 8). Adam moves p and n, at a rate of their own that follows no schedule.

    As with `binary_weights`, the stem and the classifiers stay real.
    """

    name = "ternary_weights"

    threshold: float = setting(
        0.05, "largest magnitude of a weight that is zero, as a share", minimum=0.0, maximum=0.99
    )
    lr: float = setting(1e-3, "learning rate of the two numbers", minimum=0.0)

    def on_start(self, run: Run) -> None:
        """Find the kernels, and begin with 1 for both numbers of each."""
        self.kernels = binary_kernels(run.module)
        device = next(run.module.parameters()).device
        self.scales = nn.Parameter(torch.ones((len(self.kernels), 2), device=device))
        self._optimizer = torch.optim.Adam([self.scales], lr=self.lr)

    @contextmanager
    def weights(self, run: Run) -> Iterator[None]:
        """Run with ternary kernels."""
        with restored(self.kernels):
            self._quantize()
            yield

    @torch.no_grad()
    def on_gradients(self, run: Run) -> None:
        """Turn gradients of ternary kernels into those of the real ones and of the two numbers."""
        self.scales.grad = torch.zeros_like(self.scales)
        for kernel, scales, into in zip(self.kernels, self.scales, self.scales.grad, strict=True):
            if kernel.grad is not None:
                above, below = ternary_masks(kernel, self.threshold)
                into[0] = (kernel.grad * above).sum()
                into[1] = -(kernel.grad * below).sum()
                kernel.grad *= above * scales[0] + below * scales[1] + ~(above | below)

    def on_step(self, run: Run) -> None:
        """Move the two numbers."""
        self._optimizer.step()

    def on_finish(self, run: Run) -> None:
        """Keep the ternary kernels."""
        self._quantize()

    def state_dict(self) -> dict[str, Any]:
        """Return the two numbers of each kernel, and the state of their optimizer."""
        return {"scales": self.scales.detach(), "optimizer": self._optimizer.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with other numbers."""
        self.scales.copy_(state["scales"])
        self._optimizer.load_state_dict(state["optimizer"])

    @torch.no_grad()
    def _quantize(self) -> None:
        for kernel, scales in zip(self.kernels, self.scales, strict=True):
            above, below = ternary_masks(kernel, self.threshold)
            kernel.copy_(above * scales[0] - below * scales[1])


def ternary_masks(kernel: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return where a kernel is above and where below `threshold` of its largest magnitude, of its shape."""
    bound = threshold * kernel.abs().max()
    return kernel > bound, kernel < -bound
