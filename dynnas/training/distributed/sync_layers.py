"""Layers that look at the whole batch, while each rank holds a part of it.

Batch norm, dropout and the noise of gates are the only ones: with statistics of a part, or draws of their
own, several ranks would train something else than one. Here they give each rank its part of what one process
would compute, so that the number of processes changes a training by rounding alone.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.nn.gates.estimators import GumbelNoise, NormalNoise, draw_gumbel, draw_normal
from dynnas.supernet.elastic import ElasticSlot
from dynnas.supernet.supernet import Supernet
from dynnas.training.distributed.ranks import Batch, Ranks


def see_whole_batch(supernet: Supernet, batch: Batch) -> None:
    """From now on `supernet` trains on this rank's part of such batches."""
    if batch.ranks.count == 1:
        return
    for slot in supernet.slots.values():
        assert isinstance(slot, ElasticSlot)
        slot.set_mode("whole_batch", partial(_share_layers, ranks=batch.ranks, whole=batch.images))


def _share_layers(module: nn.Module, ranks: Ranks, whole: int) -> None:
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.forward = partial(_normalise, layer, ranks)  # type: ignore[method-assign]
        elif isinstance(layer, nn.Dropout):
            layer.forward = partial(_drop, layer, ranks, whole)  # type: ignore[method-assign]
        elif isinstance(layer, GumbelNoise):
            layer.forward = partial(_noise, draw_gumbel, ranks, whole)  # type: ignore[method-assign]
        elif isinstance(layer, NormalNoise):
            layer.forward = partial(_noise, draw_normal, ranks, whole)  # type: ignore[method-assign]


def _normalise(norm: nn.BatchNorm2d, ranks: Ranks, x: Tensor) -> Tensor:
    """Batch norm of (B, C, H, W) with the statistics of all ranks' images."""
    result: Tensor = _BatchNorm.apply(x, norm.weight, norm.bias, norm.eps, ranks)
    return result


def _drop(dropout: nn.Dropout, ranks: Ranks, whole: int, x: Tensor) -> Tensor:
    """Dropout of (B, ...): this rank's rows of what all ranks alike draw for all `whole` images."""
    if not dropout.training or dropout.p == 0:
        return x
    kept = F.dropout(x.new_ones((whole, *x.shape[1:])), dropout.p)
    return x * kept[ranks.part(whole)]


def _noise(
    draw: Callable[[tuple[int, ...], Tensor], Tensor], ranks: Ranks, whole: int, logits: Tensor
) -> Tensor:
    """Noise for logits (B, ...): this rank's rows of what all ranks alike draw for all `whole` images."""
    return draw((whole, *logits.shape[1:]), logits)[ranks.part(whole)]


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
