"""What the dynamic kernels compute, by their papers' formulas."""

import pytest
import torch
from support.contexts import running
from support.slot_configs import block
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.dynamic_conv.mode import ConvMode, RouterMode
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.conv_shape import ConvShape
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively


def test_condconv_coefficients_come_from_the_block_input_for_all_convolutions():
    module = lively(build(block("dwsep", "condconv", bank=3)))
    x = torch.randn(2, 8, 5, 5)
    routes = module.router(x)
    expected = torch.sigmoid(F.linear(x.mean((2, 3)), *module.router.condconv.fc.parameters()))
    assert list(routes) == ["depthwise", "pointwise"]
    assert_close(routes["depthwise"], expected)
    assert_close(routes["pointwise"], expected)


def test_dyconv_attention_sums_to_one():
    conv = lively(KERNELS["dyconv"](ConvShape(8, 8, 3)))
    assert_close(conv.dyconv_router(torch.randn(5, 8, 4, 4)).sum(1), torch.ones(5))


def test_dyconv_at_high_temperature_is_the_mean_of_its_experts():
    shape = ConvShape(8, 6, 3)
    conv = lively(KERNELS["dyconv"](shape))
    x = torch.randn(3, 8, 5, 5)
    mean = F.conv2d(x, conv.weight.mean(0), conv.dyconv_bias.mean(0), padding=1)
    assert (conv(x) - mean).abs().max() > 0.1
    conv = running(conv, RouterMode(temperature=1e6))
    assert_close(conv(x), mean, rtol=0, atol=1e-4)


@pytest.mark.parametrize("batch", [1, 3])
def test_dyconv_mixes_a_bias_that_no_batch_norm_takes_away(batch):
    conv = lively(KERNELS["dyconv"](ConvShape(8, 6, 3)))
    x = torch.randn(batch, 8, 5, 5)
    coefficients = conv.dyconv_router(x)
    bias = sum(coefficients[:, k, None] * conv.dyconv_bias[k] for k in range(4))
    found = conv(x)
    with torch.no_grad():
        conv.dyconv_bias.zero_()
    assert_close(found - conv(x), bias[:, :, None, None].expand(-1, -1, 5, 5), rtol=0, atol=1e-4)
    if batch > 1:
        assert bias.std(0).max() > 0.01  # it differs between images


def test_dyconv_folds_a_shift_into_the_bias_of_every_expert():
    conv = lively(KERNELS["dyconv"](ConvShape(8, 6, 3)))
    x, scale, shift = torch.randn(3, 8, 5, 5), torch.rand(6), torch.randn(6)
    expected = conv(x) * scale[:, None, None] + shift[:, None, None]
    conv.absorb(scale, shift)
    assert conv.bias is None
    assert_close(conv(x), expected, rtol=0, atol=1e-4)


def test_dynet_layer_routes_by_the_input_of_each_convolution():
    module = lively(build(block("dwsep", "dynet_layer", bank=3))).eval()
    assert module.router(torch.randn(1, 8, 3, 3)) == {"depthwise": None, "pointwise": None}
    x = torch.randn(2, 8, 5, 5)
    for unit in (module.depthwise, module.pointwise):
        layer, plain = unit.conv, KERNELS["dynet"](unit.conv.shape, group=3)
        with torch.no_grad():
            plain.weight.copy_(layer.weight)
        route = layer.dynet_layer_router(x.mean((2, 3)))
        assert_close(layer(x), plain(x, route), rtol=0, atol=1e-6)
        x = unit(x)


def test_routing_dropout_drops_only_in_training_and_only_if_asked_for():
    router = lively(build(block("conv", "condconv"))).router
    x = torch.rand(64, 8, 3, 3)
    before = torch.random.get_rng_state()
    plain = router.train()(x)["conv"]
    assert torch.equal(torch.random.get_rng_state(), before)  # existing results stay
    router = running(router, RouterMode(dropout=0.25))
    assert not torch.allclose(router(x)["conv"], plain)
    assert_close(router.eval()(x)["conv"], plain)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_dropout_rate_is_below_one(rate):
    with pytest.raises(ValueError, match=f"from 0 to below 1, not {rate}"):
        RouterMode(dropout=rate)


def test_dyconv_hidden_units_are_a_quarter_and_one():
    conv = KERNELS["dyconv"](ConvShape(10, 6, 3), experts=5)
    assert conv.dyconv_router.reduce.weight.shape == (3, 10)
    assert conv.dyconv_router.expand.weight.shape == (5, 3)


def test_dynet_against_a_loop_over_images_channels_and_experts():
    module = lively(build(block("conv", "dynet", 4, 6, bank=3)))
    x = torch.randn(3, 4, 5, 5)
    router = module.router.dynet.convs["conv"]
    expected = torch.zeros(3, 6, 5, 5)
    for image in range(3):
        pooled = x[image].mean((1, 2))
        for channel in range(6):
            for expert in range(3):
                eta = torch.sigmoid(router.weight[channel, expert] @ pooled + router.bias[channel, expert])
                kernel = eta * module.conv.conv.weight[expert, channel]
                expected[image, channel] += F.conv2d(x[image][None], kernel[None], padding=1)[0, 0]
    assert_close(module.conv.conv(x, module.router(x)["conv"]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("op", "start"), [("condconv", 0.5), ("dyconv", 0.25), ("dynet", 0.5)])
def test_training_starts_with_balanced_coefficients(op, start):
    torch.manual_seed(0)
    module = build(block("conv", op, bank=4))
    x = torch.rand(16, 8, 6, 6)
    route = module.router(x)["conv"]
    coefficients = module.conv.conv.dyconv_router(x) if route is None else route
    assert_close(coefficients, torch.full_like(coefficients, start), rtol=0, atol=0.02)


def test_every_expert_starts_with_a_variance_of_its_own_fan_out():
    torch.manual_seed(0)
    bank = KERNELS["condconv"](ConvShape(64, 32, 3)).weight
    for expert in bank:
        assert expert.std().item() == pytest.approx((2 / (32 * 9)) ** 0.5, rel=0.05)
    depthwise = KERNELS["static"](ConvShape(512, 512, 3, groups=512)).weight
    assert depthwise.std().item() == pytest.approx((2 / 9) ** 0.5, rel=0.05)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match=f"positive, not {temperature}"):
        RouterMode(temperature=temperature)


def test_an_unknown_strategy_is_refused():
    with pytest.raises(ValueError, match="unknown strategy 'fastest': known are auto, conv_first"):
        ConvMode("fastest")


def test_a_router_that_gives_no_route_is_a_bug_that_is_named():
    conv = KERNELS["condconv"](ConvShape(8, 8))
    with pytest.raises(TypeError, match="CondConv mixes its bank by a route"):
        conv(torch.randn(1, 8, 2, 2), None)
