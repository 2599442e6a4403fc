"""Kernels, attention and blocks against timm's, with the same weights."""

import functools

import pytest
import torch
from support.slot_configs import block
from support.witness import assert_block_is, assert_same, copy_weights
from torch import nn

from dynnas.nn.dynamic_conv.mixing import mixed_conv
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.registry import ATTENTIONS
from dynnas.testing.conformance import lively

MBCONV_PARTS = {
    "expand.conv": "conv_pw",
    "expand.norm": "bn1",
    "depthwise.conv": "conv_dw",
    "depthwise.norm": "bn2",
    "attention.se.reduce": "se.conv_reduce",
    "attention.se.expand": "se.conv_expand",
    "project.conv": "conv_pwl",
    "project.norm": "bn3",
    "router.condconv.fc": "routing_fn",
}
DWSEP_PARTS = {
    "depthwise.conv": "conv_dw",
    "depthwise.norm": "bn1",
    "attention.se.reduce": "se.conv_reduce",
    "attention.se.expand": "se.conv_expand",
    "pointwise.conv": "conv_pw",
    "pointwise.norm": "bn2",
}


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "shape",
    [
        ConvShape(6, 8, 3, 2),
        ConvShape(6, 8),
        ConvShape(8, 8, 5, 1, groups=8),
        ConvShape(8, 4, 3, 1, groups=2),
    ],
    ids=["dense", "pointwise", "depthwise", "grouped"],
)
def test_mixed_conv_is_condconv2d(timm, shape, batch):
    theirs = timm.layers.CondConv2d(
        shape.in_channels,
        shape.out_channels,
        shape.kernel,
        shape.stride,
        shape.padding,
        groups=shape.groups,
        bias=False,
        num_experts=3,
    )
    bank = theirs.weight.detach().view(3, *shape.weight)
    coefficients = torch.rand(batch, 3)

    def ours(x):
        return mixed_conv(x, bank, coefficients, None, shape, "auto")

    assert_same(ours, lambda x: theirs(x, coefficients), torch.randn(batch, shape.in_channels, 7, 7))


@pytest.mark.parametrize("attention", ["none", "se"])
@pytest.mark.parametrize(("out_channels", "stride"), [(8, 1), (16, 1), (16, 2)])
def test_mbconv_is_inverted_residual(timm, out_channels, stride, attention):
    layers = timm.models._efficientnet_blocks
    theirs = layers.InvertedResidual(
        8, out_channels, 5, stride, exp_ratio=3.0, se_layer=squeeze_excite(layers, attention)
    )
    config = block("mbconv", "static", 8, out_channels, stride, kernel=5, expand=3.0, attention=attention)
    assert_block_is(theirs, config, MBCONV_PARTS)


@pytest.mark.parametrize("attention", ["none", "se"])
@pytest.mark.parametrize(("out_channels", "stride"), [(8, 1), (16, 2)])
def test_mbconv_of_condconv_is_condconv_residual(timm, out_channels, stride, attention):
    layers = timm.models._efficientnet_blocks
    theirs = layers.CondConvResidual(
        8, out_channels, 3, stride, exp_ratio=2.0, num_experts=4, se_layer=squeeze_excite(layers, attention)
    )
    config = block("mbconv", "condconv", 8, out_channels, stride, expand=2.0, attention=attention)
    assert_block_is(theirs, config, MBCONV_PARTS)


@pytest.mark.parametrize("attention", ["none", "se"])
def test_dwsep_is_depthwise_separable_conv(timm, attention):
    layers = timm.models._efficientnet_blocks
    theirs = layers.DepthwiseSeparableConv(
        8, 8, 3, 1, noskip=True, pw_act=True, se_layer=squeeze_excite(layers, attention)
    )
    assert_block_is(theirs, block("dwsep", attention=attention), DWSEP_PARTS)


@pytest.mark.parametrize("channels", [4, 24])
def test_se_is_squeeze_excite(timm, channels):
    theirs = lively(timm.layers.SqueezeExcite(channels, rd_ratio=1 / 4, rd_divisor=1))
    ours = ATTENTIONS["se"](channels)
    copy_weights(ours, theirs, {"reduce": "fc1", "expand": "fc2"})
    assert_same(ours, theirs, torch.randn(2, channels, 5, 5))


def squeeze_excite(layers, attention):
    return (
        functools.partial(layers.SqueezeExcite, rd_ratio=1 / 4, act_layer=nn.ReLU)
        if attention == "se"
        else None
    )
