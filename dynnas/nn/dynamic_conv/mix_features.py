"""Mixed convolutions by way of the experts' feature maps: M times the multiply-adds, no kernel per image."""

from __future__ import annotations

from torch import Tensor

from dynnas.nn.dynamic_conv.mix_kernels import with_bias
from dynnas.nn.layers.conv_shape import ConvShape, convolve


def conv_first(
    x: Tensor, bank: Tensor, coefficients: Tensor, bias: Tensor | None, shape: ConvShape
) -> Tensor:
    """Run one ordinary convolution for each expert, and return the weighted sum of their feature maps.

    Shapes are those of `mixed_conv`. The batch may be of any size in an exported graph.
    """
    if coefficients.dim() == 2:
        coefficients = coefficients.unsqueeze(1)
    maps = [
        convolve(x, expert, None, shape) * weight[..., None, None]
        for expert, weight in zip(bank.unbind(), coefficients.unbind(-1), strict=True)
    ]
    return with_bias(sum(maps[1:], start=maps[0]), bias)


def wide_conv(x: Tensor, bank: Tensor, coefficients: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Run one convolution with the filters of all experts, and return the weighted sum of their maps.

    Shapes are those of `mixed_conv`.
    """
    experts = bank.shape[0]
    # A group's filters stay together: (groups, M, Co / groups).
    filters = bank.unflatten(1, (shape.groups, -1)).transpose(0, 1)
    maps = convolve(x, filters.flatten(0, 2), None, shape).unflatten(1, (shape.groups, experts, -1))
    size = maps.shape[4:]
    if coefficients.dim() == 2:
        weights = coefficients[:, None, None]
        y = (weights @ maps.flatten(3)).flatten(1)
    else:
        weights = coefficients.unflatten(1, (shape.groups, -1)).transpose(2, 3)
        y = (maps * weights[..., None, None]).sum(2)
    return with_bias(y.reshape(-1, shape.out_channels, *size), bias)
