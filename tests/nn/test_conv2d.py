"""`dynnas.nn.Conv2d` against torch's own, and dynamic kernels against torch's with the kernel they mix."""

import io

import pytest
import torch
from support.mixed_problems import by_definition
from support.slot_configs import pictures
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

import dynnas.nn as dnn
from dynnas.errors import SpaceError
from dynnas.nn.layers.macs import count_macs
from dynnas.testing.conformance import lively

GEOMETRIES = {
    "plain": {"kernel_size": 3},
    "padded": {"kernel_size": 3, "padding": 1},
    "same": {"kernel_size": 5, "padding": "same"},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "unpadded and dilated": {"kernel_size": 3, "dilation": 2, "stride": 2},
    "even": {"kernel_size": 2, "stride": 2},
    "grouped": {"kernel_size": 3, "groups": 4, "padding": 2},
    "depthwise": {"kernel_size": 3, "groups": 8, "padding": 1},
    "pointwise": {"kernel_size": 1},
    "padded pointwise": {"kernel_size": 1, "padding": 1},
    "strided pointwise": {"kernel_size": 1, "stride": 2},
}
geometries = pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
DEPTHWISE = GEOMETRIES["depthwise"]


def images(batch=3):
    return pictures(batch, 9, 7)


@geometries
@pytest.mark.parametrize("bias", [True, False])
def test_static_is_torchs_own(geometry, bias):
    theirs = nn.Conv2d(8, 8, **geometry, bias=bias)
    ours = dnn.Conv2d(8, 8, **geometry, bias=bias)
    ours.load_state_dict(theirs.state_dict())
    ours_x, theirs_x = images().requires_grad_(), images().requires_grad_()
    y = theirs(theirs_x)
    assert_close(ours(ours_x), y, rtol=0, atol=0)
    y.square().sum().backward()
    ours(ours_x).square().sum().backward()
    assert_close(ours_x.grad, theirs_x.grad, rtol=0, atol=0)
    assert_close(ours.weight.grad, theirs.weight.grad, rtol=0, atol=0)


def test_weights_start_as_torchs_do():
    """Uniform within 1 / sqrt(fan in): of static kernels, and of each kernel of a bank."""
    limit = (16 * 9) ** -0.5
    for op in ("static", "condconv"):
        weight = dnn.Conv2d(16, 64, 3, op=op).weight
        assert limit * 0.99 < float(weight.detach().abs().max()) <= limit
        assert float(weight.detach().std()) == pytest.approx(limit / 3**0.5, rel=0.03)


@geometries
@pytest.mark.parametrize("op", ["condconv", "dyconv", "dynet", "dynet_layer"])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_a_mixture_is_torchs_convolution_with_the_mixed_kernel(geometry, op, batch):
    ours = lively(dnn.Conv2d(8, 8, **geometry, op=op, experts=3, group=3)).eval()
    x = images(batch)
    route, bias = ours.router(x)["conv"], ours.bias
    if op == "dyconv":
        route = ours.conv.dyconv_router(x)
        bias = route @ ours.conv.dyconv_bias
    if op == "dynet_layer":
        route = ours.conv.dynet_layer_router(x.mean((2, 3)))
    expected = by_definition(x, ours.weight, route, bias, ours.conv.shape)
    assert_close(ours(x), expected, rtol=1e-4, atol=1e-4)
    plain = nn.Conv2d(8, 8, **geometry)
    assert ours(x).shape == plain(x).shape


@pytest.mark.parametrize("op", dnn.KERNELS)
@pytest.mark.parametrize("batch", [1, 3])
def test_every_op_takes_every_geometry(op, batch):
    """Sizes are torch's, gradients reach every parameter, each image is computed as if alone."""
    for name, geometry in GEOMETRIES.items():
        if op in ("dfn", "involution") and name != "depthwise":
            continue
        ours = lively(dnn.Conv2d(8, 8, **geometry, op=op))
        x = images(batch)
        y = ours(x)
        assert y.shape == nn.Conv2d(8, 8, **geometry)(x).shape
        y.square().sum().backward()
        assert not [key for key, parameter in ours.named_parameters() if parameter.grad is None]
        ours.eval()
        assert_close(torch.cat([ours(image[None]) for image in x]), ours(x), rtol=1e-4, atol=1e-4)


@geometries
@torch.no_grad()
def test_ops_that_bend_a_kernel_are_torchs_convolution_where_they_do_not(geometry):
    """Offsets 0 and modulation 1; a guide that tells nothing apart; a filter that adds nothing."""
    x = images()
    for op in ("deformable", "pac", *(["dfn"] if geometry is DEPTHWISE else [])):
        ours, theirs = dnn.Conv2d(8, 8, **geometry, op=op), nn.Conv2d(8, 8, **geometry)
        theirs.weight.copy_(ours.weight)
        theirs.bias.copy_(ours.bias)
        for name, parameter in ours.named_parameters():
            if "offsets" in name or "guide" in name or "filters" in name:
                parameter.zero_()
        if op == "deformable" and ours.conv.deformable_offsets is not None:
            ours.conv.deformable_offsets.bias[2] = 100.0
        assert_close(ours(x), theirs(x), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_generated_kernel_is_run_by_torch():
    ours = dnn.Conv2d(8, 6, 3, stride=2, dilation=2, op="hypernet")
    expected = F.conv2d(images(), ours.conv.hypernet(), ours.bias, stride=2, dilation=2)
    assert_close(ours(images()), expected)


def test_knobs_of_other_ops_are_ignored_and_unknown_ones_are_not():
    assert dnn.Conv2d(8, 8, 3, op="static", experts=2).weight.shape == (8, 8, 3, 3)
    assert dnn.Conv2d(8, 8, 3, op="condconv", experts=2, group=7).weight.shape == (2, 8, 8, 3, 3)
    assert dnn.Conv2d(8, 8, 3, op="dynet", group=7).weight.shape == (7, 8, 8, 3, 3)
    with pytest.raises(
        TypeError, match=r"unknown knob 'expert' \(did you mean 'experts'\?\); known: experts,"
    ):
        dnn.Conv2d(8, 8, 3, op="condconv", expert=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"op": "condcnv"}, r"unknown kernel op 'condcnv' \(did you mean 'condconv'\?\)"),
        (
            {"op": "condconv", "experts": 0},
            r"op 'condconv': experts is 0; allowed: a whole number from 1",
        ),
        ({"op": "dfn"}, r"op 'dfn' makes no sense in a convolution from 8 to 8 channels in 1 groups"),
    ],
)
def test_a_wrong_op_is_refused(arguments, message):
    with pytest.raises(SpaceError, match=message):
        dnn.Conv2d(8, 8, 3, **arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel_size": (3, 5)}, "kernel_size is .*; allowed: a positive number, the same for both axes"),
        ({"kernel_size": 3, "stride": 0}, "stride is 0; allowed"),
        ({"kernel_size": 3, "padding": (1, 2)}, "padding is .*; allowed: a number of pixels"),
        ({"kernel_size": 3, "padding": "same", "stride": 2}, "or 'same' for an odd kernel of stride 1"),
        ({"kernel_size": 3, "groups": 3}, "in_channels is 8; allowed: multiples of groups, which is 3"),
    ],
)
def test_a_wrong_geometry_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        dnn.Conv2d(8, 8, **arguments)


def test_multiply_adds_are_counted():
    x = images(1)
    assert count_macs(dnn.Conv2d(8, 6, 3), x)[1] == 8 * 6 * 9 * 7 * 5
    mixed = count_macs(dnn.Conv2d(8, 6, 3, op="condconv", experts=4), x)[1]
    assert mixed == 8 * 6 * 9 * 7 * 5 + 4 * 8 * 6 * 9 + 8 * 4  # convolution, mixing, router


@pytest.mark.parametrize("op", ["condconv", "weightnet"])
def test_a_state_is_saved_and_loaded(op):
    first, second = lively(dnn.Conv2d(8, 6, 3, op=op)), dnn.Conv2d(8, 6, 3, op=op)
    buffer = io.BytesIO()
    torch.save(first.state_dict(), buffer)
    buffer.seek(0)
    second.load_state_dict(torch.load(buffer, weights_only=True))
    assert_close(second(images()), first(images()), rtol=0, atol=0)


@pytest.mark.parametrize("name", dnn.ATTENTIONS)
def test_attentions_are_made_by_name(name):
    made = dnn.attention(name, 8)
    assert made(images()).shape == images().shape
    assert all(key.startswith(f"{name}.") for key, _ in made.named_parameters())


@pytest.mark.parametrize(
    ("name", "theirs"), [("relu", F.relu), ("relu6", F.relu6), ("hswish", F.hardswish), ("silu", F.silu)]
)
def test_activations_are_made_by_name(name, theirs):
    assert_close(dnn.activation(name, 8)(images()), theirs(images()), rtol=0, atol=0)
