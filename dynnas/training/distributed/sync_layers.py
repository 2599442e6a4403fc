"""Layers that look at the whole batch, while each rank holds a part of it.

Batch norm and dropout are the only ones, beside what gates and routers draw: with statistics of a part, or
draws of their own, several ranks would train something else than one. Here they give each rank its part of
what one process would compute, so that the number of processes changes a training by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.training.distributed.ranks import Batch, Ranks

Draw = Callable[[tuple[int, ...], Tensor], Tensor]


def convert_layers(module: nn.Module, batch: Batch) -> nn.Module:
    """Replace the batch norms and dropouts of `module` by those of the whole batch, as `SyncBatchNorm` does.

    Args:
        module: not in use yet; it is changed in place, and returned.
        batch: the batch that this rank has a part of.
    """
    if isinstance(module, nn.BatchNorm2d):
        return WholeBatchNorm(module, batch.ranks)
    if isinstance(module, nn.Dropout):
        return WholeDropout(module.p, batch)
    for name, child in module.named_children():
        module.add_module(name, convert_layers(child, batch))
    return module


def rows_of(batch: Batch) -> Callable[[Draw, Tensor], Tensor]:
    """Return a function that draws numbers for (B, ...), this rank's rows.

    The draw for the whole batch is equal on all ranks.
    """

    def sample(draw: Draw, like: Tensor) -> Tensor:
        return draw((batch.images, *like.shape[1:]), like)[batch.part]

    return sample


class WholeBatchNorm(nn.BatchNorm2d):
    """Batch norm of (B, C, H, W) with the statistics of all ranks' images; for training."""

    def __init__(self, norm: nn.BatchNorm2d, ranks: Ranks) -> None:
        """Take over the weights of `norm`."""
        super().__init__(norm.num_features, norm.eps, device="meta")
        self.weight, self.bias = norm.weight, norm.bias
        self.ranks = ranks

    def forward(self, x: Tensor) -> Tensor:
        """Normalise."""
        result: Tensor = _BatchNorm.apply(x, self.weight, self.bias, self.eps, self.ranks)
        return result


class WholeDropout(nn.Module):
    """Dropout of (B, ...): this rank's rows of a mask that all ranks draw alike for the whole batch."""

    def __init__(self, p: float, batch: Batch) -> None:
        """Build for a rate `p`."""
        super().__init__()
        self.p, self.sample = p, rows_of(batch)

    def forward(self, x: Tensor) -> Tensor:
        """Drop values while training."""
        if not self.training or self.p == 0:
            return x
        return x * self.sample(lambda shape, like: F.dropout(like.new_ones(shape), self.p), x)


class _BatchNorm(torch.autograd.Function):
    """Batch norm over the images of all ranks (the method of torch's SyncBatchNorm, which is for GPUs only).

    The gradients of weight and bias are those of this rank's images: they are summed with all the others.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float, ranks: Ranks) -> Tensor:
        channels = x.shape[1]
        variance, mean = torch.var_mean(x.to(weight.dtype), (0, 2, 3), correction=0)
        size = mean.new_tensor([x.numel() // channels])
        facts = ranks.gather(torch.cat([mean, variance, size]))
        means, variances, sizes = facts.split([channels, channels, 1], dim=1)
        # From means and variances rather than sums of squares: these would cancel.
        total = sizes.sum()
        mean = (sizes * means).sum(0) / total
        variance = (sizes * (variances + (means - mean) ** 2)).sum(0) / total
        ctx.save_for_backward(x, weight, mean, variance, total)
        ctx.eps, ctx.ranks = eps, ranks
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, total = ctx.saved_tensors
        # As if the statistics were constants ...
        direct, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        # ... and what reaches every image by way of them, from the images of all ranks.
        sums = ctx.ranks.add(torch.cat([of_weight, of_bias]))
        by_weight, by_bias = sums.view(2, -1, 1, 1) / total
        inverse = torch.rsqrt(variance + ctx.eps).view(-1, 1, 1)
        normal = (x - mean.view(-1, 1, 1)) * inverse
        through = weight.view(-1, 1, 1) * inverse * (by_bias + normal * by_weight)
        return (direct - through).to(x.dtype), of_weight, of_bias, None, None
