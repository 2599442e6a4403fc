"""The initialisation of weights, in one place, so that all ops start alike."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


def initialise_kernels(weight: Tensor) -> None:
    """Draw kernels (Co, Ci / groups, k, k), or each of a bank of them by itself."""
    nn.init.normal_(weight, std=kernel_spread(weight.shape))


def kernel_spread(shape: Sequence[int]) -> float:
    """Return the standard deviation of new weights (..., Co, Ci / groups, k, k) (He et al. 2015, fan out).

    For a depthwise kernel the fan out is k * k: a channel reaches one output only.
    """
    out_channels, in_channels, height, width = shape[-4:]
    fan_out = height * width * (1 if in_channels == 1 else out_channels)
    return (2.0 / fan_out) ** 0.5


def initialise_linear(weight: Tensor, bias: Tensor) -> None:
    """Initialise weights and biases of any shape near zero.

    Classifiers start indifferent, and routers balanced.
    """
    nn.init.normal_(weight, std=0.01)
    nn.init.zeros_(bias)


def linear(in_features: int, out_features: int) -> nn.Linear:
    """Build a linear layer that starts near zero."""
    layer = nn.Linear(in_features, out_features)
    initialise_linear(layer.weight, layer.bias)
    return layer
