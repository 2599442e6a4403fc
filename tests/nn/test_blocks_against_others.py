"""Blocks against torchvision's and timm's, with the same weights."""

import importlib

import pytest
import torch
from support.slot_configs import block
from support.witness import assert_block_is, assert_same, copy_weights
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.blocks.ghost import GhostUnit
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.layers.layers import ConvUnit
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively

CHANGES = [(8, 8, 1), (8, 16, 1), (8, 16, 2)]
SHORTCUT = {"shortcut.conv": "downsample.0", "shortcut.norm": "downsample.1"}


def unit(ours, conv, norm):
    return {f"{ours}.conv": conv, f"{ours}.norm": norm}


@pytest.fixture(scope="session")
def torchvision_models(timm):
    """`torchvision.models`, importable once timm is."""
    return importlib.import_module("torchvision.models")


def downsample(before, after, stride):
    if stride == 1 and before == after:
        return None
    return nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))


@pytest.mark.parametrize(("before", "after", "stride"), CHANGES)
def test_basic_is_basic_block(torchvision_models, before, after, stride):
    theirs = torchvision_models.resnet.BasicBlock(before, after, stride, downsample(before, after, stride))
    assert_block_is(
        theirs,
        block("basic", "static", before, after, stride),
        {**unit("first", "conv1", "bn1"), **unit("second", "conv2", "bn2"), **SHORTCUT},
    )


@pytest.mark.parametrize(("before", "after", "stride"), CHANGES)
def test_bottleneck_is_bottleneck(torchvision_models, before, after, stride):
    theirs = torchvision_models.resnet.Bottleneck(
        before, after // 4, stride, downsample(before, after, stride)
    )
    parts = {
        **unit("reduce", "conv1", "bn1"),
        **unit("middle", "conv2", "bn2"),
        **unit("restore", "conv3", "bn3"),
        **SHORTCUT,
    }
    assert_block_is(theirs, block("bottleneck", "static", before, after, stride), parts)


@pytest.mark.parametrize("expand", [1.0, 3.0])
@pytest.mark.parametrize(("before", "after", "stride"), CHANGES)
def test_fused_mbconv_is_edge_residual(timm, before, after, stride, expand):
    theirs = timm.models._efficientnet_blocks.EdgeResidual(before, after, 3, stride, exp_ratio=expand)
    assert_block_is(
        theirs,
        block("fused_mbconv", "static", before, after, stride, expand=expand),
        {**unit("expand", "conv_exp", "bn1"), **unit("project", "conv_pwl", "bn2")},
    )


@pytest.mark.parametrize(("before", "after", "stride"), CHANGES)
def test_sepconv_is_xceptions_block(timm, before, after, stride):
    xception = importlib.import_module("timm.models.xception")
    theirs = lively(xception.Block(before, after, 2, stride)).eval()
    ours = build(block("sepconv", "static", before, after, stride)).eval()
    parts = {
        "depthwise1": "rep.1.conv1",
        **unit("pointwise1", "rep.1.pointwise", "rep.2"),
        "depthwise2": "rep.4.conv1",
        **unit("pointwise2", "rep.4.pointwise", "rep.5"),
        **unit("shortcut", "skip", "skipbn"),
    }
    copy_weights(ours, theirs, parts)
    assert_same(ours, theirs, torch.randn(3, before, 7, 7))


def in_turn(channels):
    """Where the channels of a concatenation of two halves stand once they are taken in turn."""
    return torch.arange(channels).view(2, -1).T.flatten()


def test_fire_is_fire_up_to_the_order_of_channels(torchvision_models):
    theirs = lively(torchvision_models.squeezenet.Fire(8, 2, 8, 8)).eval()
    ours = build(block("fire", "static", 8, 16)).eval()
    for part in ours.modules():
        if isinstance(part, ConvUnit):
            part.fold()  # SqueezeNet has biases, and no batch norm
    copy_weights(
        ours, theirs, {"squeeze.conv": "squeeze", "point.conv": "expand1x1", "area.conv": "expand3x3"}
    )
    assert_same(ours, lambda x: theirs(x)[:, in_turn(16)], torch.randn(3, 8, 7, 7))


SHUFFLE_PARTS = {
    **unit("reduce", "branch2.0", "branch2.1"),
    **unit("depthwise", "branch2.3", "branch2.4"),
    **unit("restore", "branch2.5", "branch2.6"),
    **unit("other_depthwise", "branch1.0", "branch1.1"),
    **unit("other_pointwise", "branch1.2", "branch1.3"),
}


@pytest.mark.parametrize("stride", [2, 3])
def test_shuffle_v2_with_a_stride_is_inverted_residual(torchvision_models, stride):
    theirs = lively(torchvision_models.shufflenetv2.InvertedResidual(8, 24, stride)).eval()
    ours = build(block("shuffle_v2", "static", 8, 24, stride)).eval()
    copy_weights(ours, theirs, SHUFFLE_PARTS)
    assert_same(ours, theirs, torch.randn(3, 8, 7, 7))


def test_shuffle_v2_is_inverted_residual_up_to_the_order_of_channels(torchvision_models):
    theirs = lively(torchvision_models.shufflenetv2.InvertedResidual(12, 12, 1)).eval()
    ours = build(block("shuffle_v2", "static", 12, 12)).eval()
    copy_weights(ours, theirs, SHUFFLE_PARTS)
    halves = [1, 0, 5, 4, 9, 8, 2, 3, 6, 7, 10, 11]  # which pass, which are worked on
    assert_same(ours, lambda x: theirs(x[:, halves]), torch.randn(3, 12, 7, 7))


def test_no_channel_passes_more_than_two_units_of_shuffle_v2():
    module = build(block("shuffle_v2", "static", 8, 8)).eval()
    nn.init.zeros_(module.restore.conv.weight)
    nn.init.ones_(module.restore.norm.bias)
    x = torch.zeros(1, 8, 1, 1)
    old = []
    for _ in range(3):
        x = module(x)
        old.append(int((x == 0).sum()))
    assert old == [4, 2, 0]


class PaperUnit(nn.Module):
    """ShuffleNet's unit of two groups, of torch's own grouped convolutions and channel shuffle."""

    def __init__(self, before, hidden, made, stride):
        super().__init__()
        self.stride = stride
        self.reduce, self.reduce_norm = (
            nn.Conv2d(before, hidden, 1, groups=2, bias=False),
            nn.BatchNorm2d(hidden),
        )
        self.shuffle = nn.ChannelShuffle(2)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, stride, 1, groups=hidden, bias=False)
        self.depthwise_norm = nn.BatchNorm2d(hidden)
        self.restore, self.restore_norm = (
            nn.Conv2d(hidden, made, 1, groups=2, bias=False),
            nn.BatchNorm2d(made),
        )

    def forward(self, x):
        y = self.shuffle(F.relu(self.reduce_norm(self.reduce(x))))
        y = self.restore_norm(self.restore(self.depthwise_norm(self.depthwise(y))))
        if self.stride == 1:
            return F.relu(x + y)
        return F.relu(torch.cat((F.avg_pool2d(x, 3, self.stride, 1), y), 1))


def copy_unit(conv, norm, source_conv, source_norm, order):
    """Give a convolution and its norm the channels of theirs in `order`."""
    conv.weight.copy_(source_conv.weight[order])
    for name, tensor in norm.state_dict().items():
        if tensor.dim():
            tensor.copy_(source_norm.state_dict()[name][order])


@pytest.mark.parametrize(("after", "stride"), [(32, 1), (64, 2)])
@torch.no_grad()
def test_shuffle_v1_is_the_papers_unit_up_to_the_order_of_channels(after, stride):
    made = after if stride == 1 else after - 32
    theirs = lively(PaperUnit(32, after // 4, made, stride)).eval()
    ours = build(block("shuffle_v1", "static", 32, after, stride)).eval()
    hidden, half = after // 4, after // 8
    # Channel 2j + g of the depthwise convolution is the j-th of group g; the second convolution's groups are
    # the even and the odd j here, and there the first and the last half.
    j = torch.arange(half).view(2, -1).T.flatten()
    for group, reduce in enumerate((ours.reduce_even, ours.reduce_odd)):
        copy_unit(reduce.conv, reduce.norm, theirs.reduce, theirs.reduce_norm, group * half + j)
    depthwise = (2 * j[:, None] + torch.arange(2)).flatten()
    copy_unit(ours.depthwise.conv, ours.depthwise.norm, theirs.depthwise, theirs.depthwise_norm, depthwise)
    for group, restore in enumerate((ours.restore_even, ours.restore_odd)):
        rows = group * made // 2 + torch.arange(made // 2)
        copy_unit(restore.conv, restore.norm, theirs.restore, theirs.restore_norm, rows)
    assert hidden == ours.depthwise.conv.shape.out_channels
    x = torch.randn(3, 32, 7, 7)
    evens_then_odds = torch.cat((torch.arange(0, 32, 2), torch.arange(1, 32, 2)))
    y = theirs(x[:, evens_then_odds])
    if stride == 1:
        expected = y[:, in_turn(32)]
    else:  # both halves back in order, then in turn
        kept, new = y[:, :32][:, in_turn(32)], y[:, 32:][:, in_turn(32)]
        expected = torch.cat((kept, new), 1)[:, in_turn(64)]
    assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("before", "after", "stride"), CHANGES)
@torch.no_grad()
def test_ghost_is_ghost_bottleneck_up_to_the_order_of_channels(timm, before, after, stride):
    ghostnet = importlib.import_module("timm.models.ghostnet")
    theirs = lively(ghostnet.GhostBottleneck(before, 2 * before, after, 3, stride)).eval()
    ours = build(block("ghost", "static", before, after, stride, expand=2.0)).eval()
    parts = {
        **unit("expand.primary", "ghost1.primary_conv.0", "ghost1.primary_conv.1"),
        **unit("expand.cheap", "ghost1.cheap_operation.0", "ghost1.cheap_operation.1"),
        **unit("depthwise", "conv_dw", "bn_dw"),
        **unit("project.primary", "ghost2.primary_conv.0", "ghost2.primary_conv.1"),
        **unit("project.cheap", "ghost2.cheap_operation.0", "ghost2.cheap_operation.1"),
        **unit("shortcut.0", "shortcut.0", "shortcut.1"),
        **unit("shortcut.1", "shortcut.2", "shortcut.3"),
    }
    copy_weights(ours, theirs, parts)
    hidden, out = in_turn(2 * before), in_turn(after)
    # What is on each side of the inner channels, and of the sum, must be in the order of ours.
    ours.project.primary.conv.weight.copy_(theirs.ghost2.primary_conv[0].weight[:, hidden])
    if stride > 1:
        copy_unit(ours.depthwise.conv, ours.depthwise.norm, theirs.conv_dw, theirs.bn_dw, hidden)
    x = torch.randn(3, before, 7, 7)
    if stride == 1 and before == after:  # the input is added: it is in the order of the output
        ours.expand.primary.conv.weight.copy_(theirs.ghost1.primary_conv[0].weight[:, out])
        expected = theirs(x[:, out.argsort()])[:, out]
    else:
        copy_unit(ours.shortcut[1].conv, ours.shortcut[1].norm, theirs.shortcut[2], theirs.shortcut[3], out)
        expected = theirs(x)[:, out]
    assert_close(ours(x), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [8, 9])
@pytest.mark.parametrize("kernel", [3, 5])
@torch.no_grad()
def test_ghost_unit_is_ghost_module_up_to_the_order_of_channels(timm, kernel, channels):
    ghostnet = importlib.import_module("timm.models.ghostnet")
    theirs = lively(ghostnet.GhostModule(6, channels, dw_size=kernel)).eval()
    shapes = GhostUnit.shapes("unit", 6, channels, kernel)
    ours = GhostUnit(block("ghost", "static"), shapes, "unit", linear=False).eval()
    copy_weights(ours.primary, theirs.primary_conv, {"conv": "0", "norm": "1"})
    ghosts = torch.arange(channels // 2)  # for an odd number theirs makes one more, and throws it away
    copy_unit(ours.cheap.conv, ours.cheap.norm, *theirs.cheap_operation[:2], ghosts)
    order = [index // 2 + (index % 2) * (channels - channels // 2) for index in range(channels)]
    x = torch.randn(3, 6, 7, 7)
    assert_close(ours(x, dict.fromkeys(shapes)), theirs(x)[:, order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride", [1, 2])
@torch.no_grad()
def test_lowrank_is_a_convolution_with_a_kernel_of_that_rank(stride):
    module = lively(build(block("lowrank", "static", 6, 8, stride, kernel=5, rank=0.4))).eval()
    reduce, restore = module.reduce.weight, module.restore.conv.weight.flatten(1)
    assert module.reduce.shape == ConvShape(6, 3, 5, stride)
    kernel = torch.einsum("or,rikl->oikl", restore, reduce)
    assert torch.linalg.matrix_rank(kernel.flatten(1)) == 3
    x = torch.randn(2, 6, 7, 7)
    expected = module.restore.act(module.restore.norm(F.conv2d(x, kernel, None, stride, 2)))
    assert_close(module(x), expected, rtol=1e-5, atol=1e-5)
