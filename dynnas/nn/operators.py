"""The registries of a block's operators, by the keys that space files choose them with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dynnas.nn.facts import Kind
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.registry import Registry

OPERATORS: Mapping[Kind, Registry[type[Any]]] = {
    "block": BLOCKS,
    "op": KERNELS,
    "attention": ATTENTIONS,
    "activation": ACTIVATIONS,
}
