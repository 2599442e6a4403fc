"""CBAM and ECA against timm's, with the same weights."""

import importlib

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.attentions.eca import eca_kernel
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.registry import ATTENTIONS
from dynnas.testing.conformance import lively


def copied(ours, theirs, parts):
    """Our module with timm's values, which come in other shapes (1x1 convolutions for linear layers)."""
    state = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        tensor.copy_(state.pop(parts[name.rsplit(".", 1)[0]] + "." + name.rsplit(".", 1)[1]).view_as(tensor))
    assert not state
    return ours.eval()


def assert_same(ours, theirs, x):
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = theirs(theirs_x)
    assert_close(ours(ours_x), y, rtol=0, atol=1e-5)
    ours(ours_x).square().sum().backward()
    y.square().sum().backward()
    assert_close(ours_x.grad, theirs_x.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [16, 48])
def test_cbam_is_cbam_module(timm, channels):
    theirs = lively(importlib.import_module("timm.layers.cbam").CbamModule(channels)).eval()
    parts = {
        "reduce": "channel.fc1",
        "expand": "channel.fc2",
        "spatial.conv": "spatial.conv.conv",
        "spatial.norm": "spatial.conv.bn",
    }
    ours = copied(ATTENTIONS["cbam"](channels), theirs, parts)
    x = torch.randn(3, channels, 9, 8)
    assert_same(ours, theirs, x)
    expected = ours(x)
    for part in ours.modules():
        if isinstance(part, ConvUnit):
            part.fold()
    assert not any(isinstance(part, nn.BatchNorm2d) for part in ours.modules())
    assert_close(ours(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("channels", [4, 64, 129, 512])
def test_eca_is_eca_module(timm, channels):
    theirs = lively(importlib.import_module("timm.layers.eca").EcaModule(channels))
    ours = ATTENTIONS["eca"](channels)
    with torch.no_grad():
        ours.weight.copy_(theirs.conv.weight.view_as(ours.weight))
    assert_same(ours, theirs, torch.randn(3, channels, 3, 4))


@pytest.mark.parametrize(
    ("channels", "size"), [(1, 3), (16, 3), (64, 3), (127, 3), (128, 5), (256, 5), (2048, 7)]
)
def test_eca_looks_at_more_neighbours_in_wider_layers(channels, size):
    assert eca_kernel(channels) == size


def test_eca_gates_by_the_mean_of_neighbouring_channels():
    eca = ATTENTIONS["eca"](5)
    x = torch.randn(2, 5, 3, 3)
    pooled = F.pad(x.mean((2, 3)), (1, 1))
    for channel in range(5):
        logit = sum(eca.weight[0, 0, 0, tap] * pooled[:, channel + tap] for tap in range(3))
        assert_close(eca(x)[:, channel], x[:, channel] * torch.sigmoid(logit)[:, None, None])
