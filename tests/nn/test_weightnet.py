"""WeightNet: the paper's grouped linear layer, and DyNet as a special case."""

import pytest
import torch
from support.contexts import running
from support.slot_configs import block
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively


@pytest.mark.parametrize("strategy", ["auto", "conv_first"])
@pytest.mark.parametrize(
    ("shape", "splits"),
    [
        (ConvShape(8, 6, 3), 2),
        (ConvShape(8, 6), 4),
        (ConvShape(6, 6, 3, 2, groups=6), 1),
    ],
    ids=["dense", "pointwise", "depthwise"],
)
@torch.no_grad()
def test_kernels_come_from_a_grouped_linear_layer(shape, splits, strategy):
    """As in the paper: M * Co activations, in G * Co groups, to the Co * Ci / groups * k * k weights."""
    group = 3
    conv = lively(KERNELS["weightnet"](shape, group, splits))
    conv = running(conv, ConvMode(strategy))
    x = torch.randn(2, shape.in_channels, 5, 5)
    route = torch.rand(2, shape.out_channels, splits, group)
    # A row of the layer for every weight, of M / G columns: the weight's value in each kernel of the bank.
    rows = conv.weight.movedim(0, -1).reshape(-1, group, 1, 1)
    for image in range(2):
        activations = route[image].reshape(1, -1, 1, 1)
        kernel = F.conv2d(activations, rows, groups=splits * shape.out_channels).view(shape.weight)
        expected = F.conv2d(x[image][None], kernel, None, shape.stride, shape.padding, groups=shape.groups)
        assert_close(conv(x, route)[image][None], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["conv", "dwsep"])
@torch.no_grad()
def test_with_one_split_it_is_dynet(kind):
    weightnet = lively(build(block(kind, "weightnet", 8, 6, bank=3, splits=1))).eval()
    dynet = build(block(kind, "dynet", 8, 6, bank=3)).eval()
    router, plain = weightnet.router.weightnet, dynet.router.dynet
    state = weightnet.state_dict()
    for name, tensor in dynet.state_dict().items():
        if not name.startswith("router"):
            tensor.copy_(state[name])
    for name, (part,) in router.convs.items():
        # Two linear layers in a row are one.
        plain.convs[name].weight.copy_(part.weight @ router.reduce.weight)
        plain.convs[name].bias.copy_(part.weight @ router.reduce.bias + part.bias)
    x = torch.randn(3, 8, 5, 5)
    assert_close(weightnet(x), dynet(x), rtol=1e-5, atol=1e-4)


def test_splits_are_as_even_as_can_be_and_at_most_the_input_channels():
    narrow = build(block("conv", "weightnet", 3, 4, splits=8))
    assert len(narrow.router.weightnet.convs["conv"]) == 3
    conv = KERNELS["weightnet"](ConvShape(5, 4), splits=2)
    assert [part for part, _ in conv._parts()] == [slice(0, 3), slice(3, 5)]
    depthwise = build(block("dwsep", "weightnet", splits=4)).router.weightnet.convs["depthwise"]
    assert len(depthwise) == 1
