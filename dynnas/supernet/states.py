"""Buffers by which a training changes what a network computes, beside the statistics of norms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase


def own_buffers_of(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the name and tensor of every buffer of numbers, except those of norms."""
    for prefix, part in network.named_modules():
        if not isinstance(part, _NormBase):
            for name, tensor in part.named_buffers(prefix, recurse=False):
                if tensor.is_floating_point():
                    yield name, tensor


def noted(network: nn.Module) -> dict[str, Tensor]:
    """Return copies of the buffers that `changed` looks at."""
    return {name: tensor.detach().clone() for name, tensor in own_buffers_of(network)}


def changed(network: nn.Module, before: Mapping[str, Tensor]) -> frozenset[str]:
    """Return the names of the buffers that are other ones than before."""
    return frozenset(
        name
        for name, tensor in own_buffers_of(network)
        if name in before and not torch.equal(tensor, before[name])
    )
