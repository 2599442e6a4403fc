"""Attentions and activations by their names, for networks that leave the choice open."""

from __future__ import annotations

from torch import nn

from dynnas.nn.layers.naming import named
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS


def activation(name: str, channels: int) -> nn.Module:
    """An activation of feature maps (B, `channels`, H, W), such as "relu", "hswish" or "dyrelu_b".

    Raises:
        SpaceError: there is none of this name.
    """
    return named(name, ACTIVATIONS[name](channels))


def attention(name: str, channels: int) -> nn.Module:
    """An attention over feature maps (B, `channels`, H, W), such as "se", "eca", "cbam" or "none".

    Raises:
        SpaceError: there is none of this name.
    """
    return named(name, ATTENTIONS[name](channels))
