"""Deformable convolution against torchvision's, a loop over pixels, and the ordinary convolution."""

import math
from itertools import product

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.testing.conformance import lively

SHAPES = [ConvShape(4, 6, 3), ConvShape(4, 4, 5, 2, groups=4), ConvShape(4, 6, 3, 2, groups=2)]


def deformable(shape):
    return lively(KERNELS["deformable"](shape))


def sampled(image, y, x):
    """A channel (H, W) at a position, zero outside, between four pixels."""
    top, left = math.floor(y), math.floor(x)
    total = 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column].item()
    return total


@pytest.mark.parametrize("shape", SHAPES, ids=["dense", "depthwise", "grouped"])
@torch.no_grad()
def test_against_a_loop_over_pixels(shape):
    conv = deformable(shape)
    x = torch.randn(1, 4, 5, 4)
    moves = conv.deformable_offsets(x)
    found = conv(x)
    expected = torch.zeros_like(found)
    per_group = shape.out_channels // shape.groups
    for out, row, column in product(*map(range, found.shape[1:])):
        for place, tap_y, tap_x in (
            (i, j, k)
            for i in range(shape.weight[1])
            for j in range(shape.kernel)
            for k in range(shape.kernel)
        ):
            down, right, logit = moves[0, :, tap_y, tap_x, row, column].tolist()
            y = row * shape.stride + tap_y - shape.padding + down
            x_position = column * shape.stride + tap_x - shape.padding + right
            channel = out // per_group * shape.weight[1] + place
            value = sampled(x[0, channel], y, x_position) / (1 + math.exp(-logit))
            expected[0, out, row, column] += conv.weight[out, place, tap_y, tap_x] * value
    assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=["dense", "depthwise", "grouped"])
def test_against_torchvision(timm, shape):
    from torchvision.ops import deform_conv2d

    if not hasattr(torch.ops.torchvision, "deform_conv2d"):
        pytest.skip("this torchvision was built for another torch and has no operators")
    conv = deformable(shape)
    x = torch.randn(3, 4, 9, 8, requires_grad=True)
    moves = conv.deformable_offsets(x)
    offsets = moves[:, :2].flatten(2, 3).transpose(1, 2).flatten(1, 2)
    mask = torch.sigmoid(moves[:, 2]).flatten(1, 2)
    theirs = deform_conv2d(x, offsets, conv.weight, stride=shape.stride, padding=shape.padding, mask=mask)
    assert_close(conv(x), theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=["dense", "depthwise", "grouped"])
def test_untrained_it_is_half_the_ordinary_convolution(shape):
    conv = KERNELS["deformable"](shape)
    x = torch.randn(2, 4, 6, 7)
    expected = F.conv2d(x, conv.weight, None, shape.stride, shape.padding, groups=shape.groups)
    assert_close(conv(x), expected / 2, rtol=0, atol=1e-5)


def test_gradients_are_those_of_finite_differences():
    conv = deformable(ConvShape(2, 2, 3)).double().eval()  # in training, offsets learn more slowly
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)
    parameters = tuple(conv.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: conv(x), (x, *parameters))


def test_in_training_what_moves_taps_learns_at_a_tenth_of_the_rate():
    conv = deformable(ConvShape(4, 6, 3))
    x = torch.randn(2, 4, 5, 4, requires_grad=True)
    found = {}
    for training in (False, True):
        learned = {"x": x, **dict(conv.train(training).named_parameters())}
        gradients = torch.autograd.grad(conv(x).square().sum(), tuple(learned.values()))
        found[training] = dict(zip(learned, gradients, strict=True))
    for name, gradient in found[False].items():
        slower = 0.1 if "offsets" in name else 1.0
        assert_close(found[True][name], slower * gradient)
        assert gradient.abs().max() > 0.01


def test_a_pointwise_convolution_has_nothing_to_deform():
    conv = KERNELS["deformable"](ConvShape(4, 6))
    assert [name for name, _ in conv.named_parameters()] == ["weight"]
    x = torch.randn(2, 4, 3, 3)
    assert_close(conv(x), F.conv2d(x, conv.weight))
