"""Batch norm folded into the convolution before it: in eval mode it only scales and shifts each channel."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from dynnas.nn.context import Context, layers_of
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.networks.modes import settle
from dynnas.runtimes.fusing import fuse_norms
from dynnas.runtimes.plain import PlainNetwork, blank_images

Folded = TypeVar("Folded", bound=nn.Module)


def fold_batchnorm(network: Folded, context: Context | None = None) -> Folded:
    """Return a copy of `network` in eval mode without batch norms, equal in its outputs up to rounding.

    A bank of experts [M, Co, Ci/groups, k, k] folds as a single kernel does: any mixture of scaled
    experts is the scaled mixture, and the shift is added once, to the convolution's output.

    Args:
        context: what the layers of the copy are to use; that of `network` if None.
    """
    folded = copy.deepcopy(network).eval()
    for module in folded.modules():
        if isinstance(module, ConvUnit):
            module.fold()
    for plain in list(folded.modules()):  # itself, or a network of a cascade
        if isinstance(plain, PlainNetwork):
            like = next(plain.parameters(), torch.empty(0))
            fuse_norms(plain, blank_images(plain.config).to(like.device, like.dtype))
    settle(folded)
    folded.requires_grad_(False)
    if context is not None:
        for layer in layers_of(folded):
            layer.context = context
    return folded
