"""Group lasso: whole filters and channels become zero while a network is trained."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from dynnas.training.algorithm import Algorithm, Run, register_algorithm, setting


@register_algorithm("group_lasso")
@dataclass(eq=False)
class GroupLasso(Algorithm):
    """Structured sparsity learning (Wen et al. 2016, arXiv:1608.03665, equation 3): norms of groups are paid.

    Groups are the filters of each convolution and the channels that its filters read. Of a bank of kernels a
    group runs through all experts; a depthwise convolution has no channels but its filters. In a supernet the
    shared kernels pay, once a step.
    """

    name = "group_lasso"

    filters: float = setting(1e-4, "what a filter pays for its norm", minimum=0.0)
    channels: float = setting(1e-4, "what the weights that read one channel pay for their norm", minimum=0.0)

    def on_gradients(self, run: Run) -> None:
        """Add the gradient of what the groups pay."""
        kernels = [value for value in run.module.parameters() if value.ndim > 3 and value.grad is not None]
        if kernels and (self.filters or self.channels):
            paid = group_norms(kernels, self.filters, self.channels)
            for kernel, gradient in zip(kernels, torch.autograd.grad(paid, kernels), strict=True):
                assert kernel.grad is not None
                kernel.grad += gradient


def group_norms(kernels: Iterable[Tensor], filters: float, channels: float) -> Tensor:
    """Return the weighted sum of the norms of all groups: ().

    Args:
        kernels: (Co, Ci, kh, kw), or banks (M, Co, Ci, kh, kw).
        filters, channels: weights of the norms along Co, and along Ci where that is more than 1.
    """
    total = torch.zeros(())
    for kernel in kernels:
        for weight, axis in ((filters, kernel.ndim - 4), (channels, kernel.ndim - 3)):
            if weight and kernel.shape[axis] > 1:
                norms = torch.linalg.vector_norm(kernel.movedim(axis, 0).flatten(1), dim=1)
                total = total.to(kernel.device) + weight * norms.sum()
    return total
