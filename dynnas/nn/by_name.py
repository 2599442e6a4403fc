"""Attentions and activations by their names, for networks that leave the choice open."""

from __future__ import annotations

from typing import Any

from torch import nn

from dynnas.nn.layers.naming import named
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS


def activation(name: str, channels: int, **knobs: Any) -> nn.Module:
    """Build an activation of feature maps (B, `channels`, H, W), such as "relu", "hswish" or "dyrelu_b".

    Args:
        name: in `dynnas.nn.ACTIVATIONS`. channels: C. knobs: those of the activation, if it has any.

    Raises:
        SpaceError: there is none of this name.
    """
    return named(name, ACTIVATIONS[name](channels, **knobs))


def attention(name: str, channels: int, **knobs: Any) -> nn.Module:
    """Build an attention over feature maps (B, `channels`, H, W), such as "se", "eca", "cbam" or "none".

    Args:
        name: in `dynnas.nn.ATTENTIONS`. channels: C. knobs: those of the attention, if it has any.

    Raises:
        SpaceError: there is none of this name.
    """
    return named(name, ATTENTIONS[name](channels, **knobs))
