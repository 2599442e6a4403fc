"""The registries of blocks, attentions and activations.

Kernels have theirs beside their base class, gates in `dynnas.nn.gates.family`. Reading one loads what it
holds: see `dynnas.registry`.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dynnas.registry import Registry

BLOCKS: Registry[Callable[..., nn.Module]] = Registry(
    "block", group="dynnas.blocks", package="dynnas.nn.blocks"
)
ATTENTIONS: Registry[Callable[..., nn.Module]] = Registry(
    "attention", group="dynnas.attentions", package="dynnas.nn.attentions"
)
ACTIVATIONS: Registry[Callable[[int], nn.Module]] = Registry(
    "activation", group="dynnas.activations", package="dynnas.nn.activations"
)

register_block = BLOCKS.register
register_attention = ATTENTIONS.register
register_activation = ACTIVATIONS.register
