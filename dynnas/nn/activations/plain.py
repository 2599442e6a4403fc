"""Activations without parameters, which treat every value by itself: torch's own."""

from __future__ import annotations

from torch import nn

from dynnas.nn.registry import register_activation


@register_activation("relu")
def relu(channels: int) -> nn.Module:
    """max(0, x)."""
    return nn.ReLU()


@register_activation("relu6")
def relu6(channels: int) -> nn.Module:
    """min(max(0, x), 6)."""
    return nn.ReLU6()


@register_activation("hswish")
def hswish(channels: int) -> nn.Module:
    """x * relu6(x + 3) / 6 (Howard et al. 2019, arXiv:1905.02244, section 5.2)."""
    return nn.Hardswish()


@register_activation("silu")
def silu(channels: int) -> nn.Module:
    """x * sigmoid(x)."""
    return nn.SiLU()
