"""The choice of no attention."""

from __future__ import annotations

from torch import nn

from dynnas.nn.facts import LOCAL
from dynnas.nn.registry import Attention, register_attention


@register_attention("none")
class NoAttention(Attention, nn.Identity):
    """Leaves the feature maps as they are."""

    capacity = 0
    provides = frozenset({LOCAL})
    input_dependent = False
