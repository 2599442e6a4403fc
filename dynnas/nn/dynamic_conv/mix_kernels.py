"""Convolutions of every image with its own kernel, the whole batch in one call."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dynnas.nn.layers.conv_shape import ConvShape, convolve


def mix(bank: Tensor, coefficients: Tensor, shape: ConvShape) -> Tensor:
    """Return the kernel of every image: (B, Co, Ci / groups, k, k), for M * P multiply-adds an image.

    Args:
        bank: (M, Co, Ci / groups, k, k). coefficients: (B, M) or (B, Co, M). shape: the geometry.
    """
    if coefficients.dim() == 2:
        return (coefficients @ bank.flatten(1)).view(-1, *shape.weight)
    channel_first = coefficients.transpose(0, 1) @ bank.flatten(2).transpose(0, 1)
    return channel_first.transpose(0, 1).reshape(-1, *shape.weight)


def plain_conv(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Convolve one image (1, Ci, H, W) with its kernel (1, Co, Ci / groups, k, k)."""
    own_bias = None if bias is None else bias.flatten()
    return convolve(x, kernels.view(shape.weight), own_bias, shape)


def batched_matmul(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Run a pointwise convolution of every image with its own kernel, in the memory format of the input.

    Args:
        x: (B, Ci, H, W). kernels: (B, Co, Ci, 1, 1). bias: (Co,), (B, Co) or None. shape: pointwise.
    """
    if shape.stride > 1:
        x = x[:, :, :: shape.stride, :: shape.stride]
    matrices, pixels = kernels.flatten(2), x.flatten(2)
    if x.is_contiguous(memory_format=torch.channels_last):
        y = (pixels.mT @ matrices.mT).mT
    else:
        y = matrices @ pixels
    return with_bias(y.unflatten(2, x.shape[2:]), bias)


def grouped_conv(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Convolve every image with its own kernel, as the groups of one wide image.

    Arguments as `batched_matmul`, of any shape.
    """
    batch = x.shape[0]
    wide = x.reshape(1, -1, *x.shape[2:])
    groups = batch * shape.groups
    y = convolve(wide, kernels.flatten(0, 1), None, shape, groups)
    return with_bias(y.view(batch, shape.out_channels, *y.shape[2:]), bias)


def unfolded_matmul(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Convolve every image with its own kernel: lay out what each tap sees as one matrix.

    Arguments as `batched_matmul`, of any shape. Takes k * k times the memory of the images.
    """
    columns = F.unfold(x, shape.kernel, shape.dilation, shape.padding, shape.stride)
    columns = columns.unflatten(1, (shape.groups, -1))
    y = kernels.unflatten(1, (shape.groups, -1)).flatten(3) @ columns
    return with_bias(y.flatten(1, 2).unflatten(2, (shape.size_after(x.shape[2]), -1)), bias)


def with_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Add a bias (Co,) or (B, Co) to `y` (B, Co, H', W')."""
    return y if bias is None else y + bias[..., None, None]
