"""pac, dfn and hypernet, by their papers' formulas and their limits."""

import pytest
import torch
from support.contexts import running
from support.slot_configs import block
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.conv_shape import ConvShape, depthwise
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively

SHAPES = [ConvShape(4, 6, 3, 2), ConvShape(4, 4, 3, 1, groups=4), ConvShape(4, 6)]
IDS = ["dense", "depthwise", "pointwise"]


def ordinary(x, weight, shape):
    return F.conv2d(x, weight, None, shape.stride, shape.padding, groups=shape.groups)


@pytest.mark.parametrize("shape", SHAPES[:2], ids=IDS[:2])
@torch.no_grad()
def test_pac_against_a_loop_over_taps_and_pixels(shape):
    conv = lively(KERNELS["pac"](shape))
    x = torch.randn(2, 4, 5, 4)
    guide = conv.pac_guide(x)
    expected = torch.zeros_like(conv(x))
    for row, column in ((r, c) for r in range(expected.shape[2]) for c in range(expected.shape[3])):
        top, left = row * shape.stride, column * shape.stride
        for tap_y, tap_x in ((j, k) for j in range(3) for k in range(3)):
            y, x_position = top + tap_y - 1, left + tap_x - 1
            if not (0 <= y < 5 and 0 <= x_position < 4):
                continue
            distance = (guide[:, :, y, x_position] - guide[:, :, top, left]).square().sum(1)
            seen = x[:, :, y, x_position] * torch.exp(-distance / 2)[:, None]
            tap = conv.weight[:, :, tap_y : tap_y + 1, tap_x : tap_x + 1]
            expected[:, :, row, column] += F.conv2d(seen[..., None, None], tap, groups=shape.groups)[
                ..., 0, 0
            ]
    assert_close(conv(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_pac_with_a_constant_guide_is_the_ordinary_convolution(shape):
    conv = KERNELS["pac"](shape)
    if conv.pac_guide is not None:
        nn.init.zeros_(conv.pac_guide.weight)
    x = torch.randn(2, 4, 5, 4)
    assert_close(conv(x), ordinary(x, conv.weight, shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("strategy", ["auto", "conv_first"])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_dfn_against_a_loop_over_images_and_channels(batch, strategy):
    conv = lively(KERNELS["dfn"](depthwise(8, 3, 2)))
    conv = running(conv, ConvMode(strategy))
    x = torch.randn(batch, 8, 5, 6)
    generator = conv.dfn_filters
    for image in range(batch):
        hidden = F.relu(generator.reduce(x[image].mean((1, 2))))
        for channel in range(8):
            kernel = conv.weight[channel, 0].clone()
            for unit in range(2):
                kernel += hidden[unit] * generator.weight[channel, unit]
            expected = F.conv2d(x[image, channel][None, None], kernel[None, None], stride=2, padding=1)[0, 0]
            assert_close(conv(x)[image, channel], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
def test_dfn_without_its_generator_is_the_ordinary_convolution(shape):
    conv = KERNELS["dfn"](shape)
    assert (conv.dfn_filters is not None) == (shape.groups == 4)
    if conv.dfn_filters is not None:
        nn.init.zeros_(conv.dfn_filters.weight)
    x = torch.randn(2, 4, 5, 4)
    assert_close(conv(x), ordinary(x, conv.weight, shape), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES, ids=IDS)
@torch.no_grad()
def test_hypernet_against_a_loop_over_input_channels(shape):
    conv = lively(KERNELS["hypernet"](shape))
    generator = conv.hypernet
    kernel = torch.empty(shape.weight)
    for index in range(shape.weight[1]):
        inner = generator.inner_weight[index] @ generator.embedding + generator.inner_bias[index]
        outer = torch.einsum("odyx,d->oyx", generator.outer_weight, inner)
        kernel[:, index] = outer + generator.outer_bias[:, 0]
    x = torch.randn(2, 4, 5, 4)
    assert_close(conv(x), ordinary(x, kernel, shape), rtol=1e-5, atol=1e-3)


def test_a_settled_hypernet_is_a_static_convolution():
    module = build(block("conv", "hypernet")).eval()
    x = torch.randn(2, 8, 5, 4)
    expected = module(x)
    settle(module)
    assert {name for name, _ in module.conv.conv.named_parameters()} == {"weight"}
    assert_close(module(x), expected, rtol=0, atol=1e-5)


def test_hypernet_kernels_start_as_initialised_ones():
    torch.manual_seed(0)
    spread = KERNELS["hypernet"](ConvShape(64, 32, 3)).hypernet().std().item()
    assert spread == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.25)
