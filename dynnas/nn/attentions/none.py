"""No attention."""

from __future__ import annotations

from torch import nn

from dynnas.nn.registry import register_attention


@register_attention("none")
class NoAttention(nn.Identity):
    """Leaves the feature maps as they are."""
