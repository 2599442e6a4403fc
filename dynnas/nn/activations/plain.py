"""Activations without parameters, which treat every value by itself; they are torch's own."""

from __future__ import annotations

from torch import nn

from dynnas.nn.facts import LOCAL
from dynnas.nn.registry import Activation, register_activation


class _Plain(Activation):
    """An activation that does not depend on the number of channels."""

    provides = frozenset({LOCAL})

    def __init__(self, channels: int) -> None:
        """Build it for feature maps of any number of channels."""
        super().__init__()


@register_activation("relu")
class ReLU(_Plain, nn.ReLU):
    """Computes max(0, x)."""

    capacity = 10


@register_activation("relu6")
class ReLU6(_Plain, nn.ReLU6):
    """Computes min(max(0, x), 6)."""

    capacity = 20


@register_activation("hswish")
class Hardswish(_Plain, nn.Hardswish):
    """Computes x * relu6(x + 3) / 6 (section 5.2)."""

    capacity = 30
    paper = "Howard et al. 2019, arXiv:1905.02244"


@register_activation("silu")
class SiLU(_Plain, nn.SiLU):
    """Computes x * sigmoid(x)."""

    capacity = 40
