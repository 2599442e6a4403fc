"""Convolutions whose kernel is a weighted sum of a bank's experts, with weights of their own for every image.

By linearity the sum can be taken of the kernels (mix-first) or of the feature maps (conv-first; Yang et al.
2019, section 3). All strategies give the same result, and the shape says which is fastest:

- one image: mix the kernels, then an ordinary convolution;
- many images, pointwise: mix the kernels, then one batched matrix product;
- many images otherwise: mix the kernels, then one convolution with the images laid side by side as groups;
- conv-first: M times the multiply-adds, but an ONNX graph can hold it with a free batch axis.

Coefficients are (B, M), one per image and expert, or (B, Co, M), one per image, output channel and expert.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.ops.conv_shape import ConvShape

Strategy = Literal["auto", "conv_first"]


def mixed_conv(
    x: Tensor, bank: Tensor, coefficients: Tensor, bias: Tensor | None, shape: ConvShape, strategy: Strategy
) -> Tensor:
    """Convolve every image with its own mixture of the bank's experts.

    Args:
        x: (B, Ci, H, W).
        bank: (M, Co, Ci / groups, k, k).
        coefficients: (B, M) or (B, Co, M).
        bias: (Co,), or (B, Co) for one of each image, or None.
        shape: the geometry of the convolution.
        strategy: "auto" is the fastest for the batch; "conv_first" exports with a free batch axis.

    Returns:
        (B, Co, H', W').
    """
    if strategy == "conv_first":
        return conv_first(x, bank, coefficients, bias, shape)
    return convolve_each(x, mix(bank, coefficients, shape), bias, shape)


def convolve_each(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Convolve every image of `x` (B, Ci, H, W) with its own kernel, (B, Co, Ci / groups, k, k)."""
    # In a trace sizes are tensors, on which one cannot branch; a mix-first trace is of one image anyway.
    if torch.jit.is_tracing() or x.shape[0] == 1:
        weight = kernels.view(shape.weight)
        own_bias = None if bias is None else bias.flatten()
        return F.conv2d(x, weight, own_bias, shape.stride, shape.padding, groups=shape.groups)
    if shape.pointwise:
        return batched_matmul(x, kernels, bias, shape)
    return grouped_conv(x, kernels, bias, shape)


def mix(bank: Tensor, coefficients: Tensor, shape: ConvShape) -> Tensor:
    """The kernel of every image: (B, Co, Ci / groups, k, k), for M * P multiply-adds an image."""
    if coefficients.dim() == 2:
        return (coefficients @ bank.flatten(1)).view(-1, *shape.weight)
    channel_first = coefficients.transpose(0, 1) @ bank.flatten(2).transpose(0, 1)
    return channel_first.transpose(0, 1).reshape(-1, *shape.weight)


def batched_matmul(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """A pointwise convolution of every image with its own kernel, in the memory format of the input."""
    if shape.stride > 1:
        x = x[:, :, :: shape.stride, :: shape.stride]
    matrices, pixels = kernels.flatten(2), x.flatten(2)
    if x.is_contiguous(memory_format=torch.channels_last):
        y = (pixels.mT @ matrices.mT).mT
    else:
        y = matrices @ pixels
    y = y.unflatten(2, x.shape[2:])
    return y if bias is None else y + bias[..., None, None]


def grouped_conv(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """A convolution of every image with its own kernel: the images are the groups of one wide image."""
    batch = x.shape[0]
    wide = x.reshape(1, -1, *x.shape[2:])
    groups = batch * shape.groups
    y = F.conv2d(wide, kernels.flatten(0, 1), None, shape.stride, shape.padding, groups=groups)
    y = y.view(batch, shape.out_channels, *y.shape[2:])
    return y if bias is None else y + bias[..., None, None]


def conv_first(
    x: Tensor, bank: Tensor, coefficients: Tensor, bias: Tensor | None, shape: ConvShape
) -> Tensor:
    """One ordinary convolution for each expert, then the weighted sum of their feature maps."""
    if coefficients.dim() == 2:
        coefficients = coefficients.unsqueeze(1)
    maps = [
        F.conv2d(x, expert, None, shape.stride, shape.padding, groups=shape.groups) * weight[..., None, None]
        for expert, weight in zip(bank.unbind(), coefficients.unbind(-1), strict=True)
    ]
    y = sum(maps[1:], start=maps[0])
    return y if bias is None else y + bias[..., None, None]
