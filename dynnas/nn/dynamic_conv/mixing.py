"""Convolutions whose kernel is a weighted sum of a bank's experts, with weights of their own for every image.

By linearity the sum can be taken of the kernels (mix-first) or of the feature maps (conv-first; Yang et al.
2019, section 3). There are several ways to run either; all give the same result, and `choice` says which
runs.

Coefficients are (B, M), one per image and expert, or (B, Co, M), one per image, output channel and expert.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dynnas.nn.context import Trace
from dynnas.nn.dynamic_conv.chunked_conv import conv_in_pieces
from dynnas.nn.dynamic_conv.mix_features import conv_first, wide_conv
from dynnas.nn.dynamic_conv.mix_kernels import (
    batched_matmul,
    grouped_conv,
    mix,
    plain_conv,
    unfolded_matmul,
    with_bias,
)
from dynnas.nn.dynamic_conv.mode import Strategy
from dynnas.nn.dynamic_conv.selection import choose, images_at_a_time, is_recorded
from dynnas.nn.dynamic_conv.tuned import Way
from dynnas.nn.layers.conv_shape import ConvShape

__all__ = ["conv_first", "convolve_each", "mix", "mixed_conv", "run_each", "run_way"]


def mixed_conv(
    x: Tensor,
    bank: Tensor,
    coefficients: Tensor,
    bias: Tensor | None,
    shape: ConvShape,
    strategy: Strategy = "auto",
    trace: Trace | None = None,
) -> Tensor:
    """Convolve every image with its own mixture of the bank's experts.

    Args:
        x: (B, Ci, H, W).
        bank: (M, Co, Ci / groups, k, k).
        coefficients: (B, M) or (B, Co, M).
        bias: (Co,), or (B, Co) for one of each image, or None.
        shape: the geometry of the convolution.
        strategy: see `Strategy`.
        trace: is told the `Problem`.

    Returns:
        (B, Co, H', W').
    """
    if strategy == "conv_first":
        return conv_first(x, bank, coefficients, bias, shape)
    if is_recorded():
        return _recorded(x, mix(bank, coefficients, shape), bias, shape)
    return run_way(choose(x, bank, coefficients, shape, trace), x, bank, coefficients, bias, shape)


def convolve_each(
    x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape, trace: Trace | None = None
) -> Tensor:
    """Convolve every image of `x` (B, Ci, H, W) with its own kernel, (B, Co, Ci / groups, k, k)."""
    if is_recorded():
        return _recorded(x, kernels, bias, shape)
    return run_each(choose(x, kernels, None, shape, trace), x, kernels, bias, shape)


def run_way(
    way: Way, x: Tensor, bank: Tensor, coefficients: Tensor, bias: Tensor | None, shape: ConvShape
) -> Tensor:
    """Run `mixed_conv` in the way that is given; shapes are those of `mixed_conv`."""
    if way == "wide":
        return wide_conv(x, bank, coefficients, bias, shape)
    if way == "experts":
        return conv_first(x, bank, coefficients, bias, shape)
    if way in ("pieces", "images"):
        return with_bias(conv_in_pieces(x, bank, coefficients, shape, _images(way, x, shape)), bias)
    return run_each(way, x, mix(bank, coefficients, shape), bias, shape)


def run_each(way: Way, x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Run `convolve_each` in the way that is given; shapes are those of `convolve_each`.

    Raises:
        ValueError: the way needs a bank, or a single image.
    """
    if way == "plain":
        return plain_conv(x, kernels, bias, shape)
    if way == "whole":
        return (batched_matmul if shape.pointwise else grouped_conv)(x, kernels, bias, shape)
    if way == "unfold":
        return unfolded_matmul(x, kernels, bias, shape)
    if way in ("pieces", "images"):
        return with_bias(conv_in_pieces(x, kernels, None, shape, _images(way, x, shape)), bias)
    raise ValueError(f"there is no bank that the way {way!r} could convolve with first")


def _images(way: Way, x: Tensor, shape: ConvShape) -> int:
    return 1 if way == "images" else images_at_a_time(shape, (x.shape[2], x.shape[3]))


def _recorded(x: Tensor, kernels: Tensor, bias: Tensor | None, shape: ConvShape) -> Tensor:
    """Return what a graph records: one convolution for one image, and exportable operators for more."""
    # A mix-first trace is of one image; its sizes are tensors, on which one cannot branch.
    if torch.jit.is_tracing() or x.shape[0] == 1:
        return plain_conv(x, kernels, bias, shape)
    return run_each("whole", x, kernels, bias, shape)
