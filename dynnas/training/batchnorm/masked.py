"""The statistics of a batch norm whose channels do not see all images."""

from __future__ import annotations

import torch
from torch import Tensor, nn

Norm = nn.modules.batchnorm._BatchNorm


class MaskedBatchNorm(nn.Module):
    """A batch norm by its batch's statistics, which collects for each channel those of images that have it.

    A channel's statistics are the averages over batches of mean and (unbiased) variance, as of torch's norms
    without momentum, but weighted by how many images of a batch it has.
    """

    def __init__(self, norm: Norm) -> None:
        """Collect for `norm`, whose weights it uses."""
        super().__init__()
        self._norm = norm
        zeros = torch.zeros_like(norm.weight, requires_grad=False)
        self._images, self._mean, self._var = zeros.clone(), zeros.clone(), zeros.clone()
        self._written = torch.zeros_like(zeros, dtype=torch.bool)

    @property
    def complete(self) -> bool:
        """Return whether every channel has statistics."""
        return bool(self._written.all())

    def forward(self, y: Tensor, seen: Tensor | None = None) -> Tensor:
        """Normalise (B, C, ...) by the images that each channel has: `seen` (B, C) bool, or all for None."""
        norm = self._norm
        if seen is None:
            seen = torch.ones(y.shape[:2], dtype=torch.bool, device=y.device)
        ones = (1,) * (y.ndim - 2)
        axes = [axis for axis in range(y.ndim) if axis != 1]
        weights = seen.view(*seen.shape, *ones).to(y.dtype)
        images = seen.sum(0).to(y.dtype)
        values = images * y[0, 0].numel()
        mean = (y * weights).sum(axes) / values.clamp(min=1)
        spread = ((y - mean.view(-1, *ones)).square() * weights).sum(axes)
        self._images += images
        self._mean += images * mean
        self._var += images * spread / (values - 1).clamp(min=1)
        var = spread / values.clamp(min=1)
        return nn.functional.batch_norm(y, mean, var, norm.weight, norm.bias, training=False, eps=norm.eps)

    def write(self) -> None:
        """Give the norm the statistics of the seen channels, where it has none yet."""
        norm = self._norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        new = (self._images > 0) & ~self._written
        images = self._images.clamp(min=1)
        norm.running_mean[new] = (self._mean / images)[new]
        norm.running_var[new] = (self._var / images)[new]
        self._written |= new
