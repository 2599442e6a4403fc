"""The registries of blocks, attentions and activations.

Kernels have theirs beside their base class, gates in `dynnas.nn.gates.family`.

Importing `dynnas.nn` imports every module of the packages that hold them, and so registers what they define.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from dynnas.registry import Registry

BLOCKS: Registry[Callable[..., nn.Module]] = Registry("block")
ATTENTIONS: Registry[Callable[..., nn.Module]] = Registry("attention")
ACTIVATIONS: Registry[Callable[[int], nn.Module]] = Registry("activation")

register_block = BLOCKS.register
register_attention = ATTENTIONS.register
register_activation = ACTIVATIONS.register
