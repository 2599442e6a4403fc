"""Depthwise convolutions and PReLU have torch's gradients, in whatever way they are computed."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from dynnas.nn.gradients import depthwise
from dynnas.nn.gradients.depthwise import Geometry, depthwise_conv, input_gradient, weight_gradient
from dynnas.nn.gradients.fast import FastGradients
from dynnas.nn.gradients.prelu import prelu

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.fixture
def tiles(monkeypatch):
    """Take tiles for small inputs, too."""
    monkeypatch.setattr(depthwise, "FEW", 0)


def by_torch(gradient, x, weight, geometry):
    return torch.ops.aten.convolution_backward(
        gradient, x, weight, None, *geometry, False, (0, 0), x.shape[1], (True, True, False)
    )[:2]


def last(x):
    return x.contiguous(memory_format=torch.channels_last)


@settings(max_examples=150, deadline=None)
@given(
    size=st.tuples(st.integers(7, 12), st.integers(7, 12)),
    kernel=st.tuples(st.integers(1, 7), st.integers(1, 7)),
    stride=PAIR,
    dilation=PAIR,
    padding=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    channels_last=st.booleans(),
)
def test_the_gradients_are_those_of_torch(size, kernel, stride, dilation, padding, channels_last):
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    padding = tuple(max(p, r - n) for p, r, n in zip(padding, reach, size, strict=True))
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, *size, generator=generator).bfloat16()
    x = last(x) if channels_last else x
    weight = torch.randn(3, 1, *kernel, generator=generator).bfloat16()
    geometry = Geometry(stride, padding, dilation)
    gradient = F.conv2d(x, weight, None, *geometry, 3)
    expected = by_torch(gradient.double(), x.double(), weight.double(), geometry)
    few, depthwise.FEW = depthwise.FEW, 0
    try:
        found = input_gradient(gradient, x, weight, geometry), weight_gradient(gradient, x, weight, geometry)
    finally:
        depthwise.FEW = few
    for own, theirs in zip(found, expected, strict=True):
        assert own.shape == theirs.shape
        assert own.dtype == torch.bfloat16
        # bfloat16 keeps eight bits, and one number is rounded once.
        assert (own.double() - theirs).abs().max() <= 0.005 * theirs.abs().max() + 1e-3


@pytest.mark.parametrize("geometry", [Geometry((1, 1), (2, 2), (2, 2)), Geometry((2, 2), (1, 1), (1, 1))])
def test_it_can_be_differentiated_twice(geometry):
    shapes = ((2, 3, 7, 7), (3, 1, 3, 3), (3,))
    given = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    convolve = partial(depthwise_conv, geometry=geometry)
    assert torch.autograd.gradcheck(convolve, given)
    assert torch.autograd.gradgradcheck(convolve, given)


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, 2, 1)]
    for kernel, stride, dilation in ((3, 2, 1), (5, 1, 1), (7, 2, 1), (3, 1, 2)):
        layers += [nn.Conv2d(8, 8, kernel, stride, dilation * (kernel // 2), dilation, 8), nn.ReLU()]
    layers += [nn.Conv2d(8, 16, 3, 1, "same", groups=8), nn.Conv2d(16, 16, (5, 1), 1, "same", groups=16)]
    layers += [
        nn.Conv2d(16, 16, 3, 1, "same", groups=16, bias=False),
        nn.Conv2d(16, 16, 3, groups=4, padding=1),
    ]
    return nn.Sequential(
        *layers, nn.Flatten(2), nn.Conv1d(16, 16, 3, 2, 1, groups=16), nn.Conv1d(16, 4, 3, 1, 1)
    )


@pytest.mark.usefixtures("tiles")
def test_a_network_learns_in_bfloat16_what_it_learns_in_float32():
    plain, fast = network(), network()
    images = torch.randn(16, 3, 64, 64)

    def gradients(module, *contexts):
        with contexts[0], contexts[1]:
            output = module(images)
        output.float().square().mean().backward()
        return output, torch.cat([each.grad.flatten() for each in module.parameters()])

    expected, wanted = gradients(plain, torch.autocast("cpu", enabled=False), torch.enable_grad())
    output, found = gradients(fast, FastGradients(), torch.autocast("cpu", torch.bfloat16))
    assert output.dtype == torch.bfloat16
    assert F.cosine_similarity(expected.flatten(), output.float().flatten(), 0) > 0.999
    assert F.cosine_similarity(wanted, found, 0) > 0.999


@pytest.mark.parametrize(
    ("layer", "own"),
    [
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), False),  # torch is fast by itself
        (nn.Conv2d(8, 8, 3, 2, 1, groups=8), True),
        (nn.Conv2d(8, 8, 5, padding=2, groups=8), True),
        (nn.Conv2d(8, 8, 5, padding=2), False),
        (nn.Conv2d(8, 8, 5, padding=2, groups=2), False),
    ],
)
def test_only_slow_convolutions_are_computed_here(layer, own, monkeypatch):
    called = []
    monkeypatch.setattr(
        depthwise, "depthwise_conv", lambda *given: called.append(given) or depthwise_conv(*given)
    )
    images = torch.randn(2, 8, 8, 8, requires_grad=True)
    with FastGradients(), torch.autocast("cpu", torch.bfloat16):
        layer(images)
        assert bool(called) == own
        called.clear()
        with torch.no_grad():
            layer(images)
    assert not called


@pytest.mark.usefixtures("tiles")
def test_checkpointed_and_mapped_modules_go_on():
    layer = nn.Conv2d(8, 8, 5, 2, 2, groups=8)
    images = torch.randn(2, 8, 16, 16, requires_grad=True)
    with FastGradients(), torch.autocast("cpu", torch.bfloat16):
        checkpoint(layer, images, use_reentrant=False).float().sum().backward()
    kept = layer.weight.grad.clone()
    layer.weight.grad = None
    with FastGradients(), torch.autocast("cpu", torch.bfloat16):
        layer(images).float().sum().backward()
    torch.testing.assert_close(kept, layer.weight.grad, rtol=0.02, atol=0.02)

    def one(image):
        return layer(image[None]).float().sum()

    with FastGradients(), torch.autocast("cpu", torch.bfloat16):
        mapped = torch.func.vmap(torch.func.grad(one))(images.detach())
    expected = torch.stack([torch.func.grad(one)(each) for each in images.detach()])
    torch.testing.assert_close(mapped, expected, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("slopes", [1, 4])
@pytest.mark.parametrize("size", [(3, 4), (2, 4, 5), (2, 4, 3, 5)])
def test_prelu_is_that_of_torch(size, slopes):
    x = torch.randn(size, dtype=torch.float64).round(decimals=1).requires_grad_()  # some are 0
    weight = torch.rand(slopes, dtype=torch.float64, requires_grad=True)
    found, expected = prelu(x, weight), F.prelu(x, weight)
    assert found.equal(expected)
    above = torch.randn_like(found)
    for own, theirs in zip(
        torch.autograd.grad(found, (x, weight), above),
        torch.autograd.grad(expected, (x, weight), above),
        strict=True,
    ):
        torch.testing.assert_close(own, theirs)
    away = torch.where(x.abs() < 0.1, 0.5, x).detach().requires_grad_()
    assert torch.autograd.gradcheck(prelu, (away, weight))
    assert torch.autograd.gradgradcheck(prelu, (away, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_prelu_has_the_type_that_torch_gives_it(dtype, autocast):
    layer, x = nn.PReLU(3).to(dtype), torch.randn(2, 3, 4, dtype=dtype, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = layer(x)
        with FastGradients():
            found = layer(x)
    assert found.dtype == expected.dtype
    assert found.equal(expected)
    assert type(found.grad_fn).__name__ != type(expected.grad_fn).__name__


def test_other_types_are_left_to_torch():
    layer, images = nn.Conv2d(4, 4, 5, 2, 2, groups=4), torch.randn(2, 4, 8, 8)
    with FastGradients(), pytest.raises(RuntimeError, match="same"):
        layer(images.bfloat16())  # a mistake of its user
    with FastGradients(), torch.autocast("cpu", torch.bfloat16):
        assert layer.double()(images.double()).dtype == torch.float64
