"""All ways to run a mixed kernel agree with the definition, in results and in gradients."""

from functools import partial
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from support.mixed_problems import assert_agree, by_definition, problems
from torch.testing import assert_close

from dynnas.nn.dynamic_conv import mixing
from dynnas.nn.dynamic_conv import selection as choice
from dynnas.nn.dynamic_conv.chunked_conv import conv_in_pieces
from dynnas.nn.dynamic_conv.mix_kernels import mix
from dynnas.nn.dynamic_conv.mixing import convolve_each, mixed_conv, run_each, run_way
from dynnas.nn.dynamic_conv.selection import by_rule, images_at_a_time
from dynnas.nn.dynamic_conv.tuned import Way
from dynnas.nn.layers.conv_shape import ConvShape

WAYS = [way for way in get_args(Way) if way != "plain"]  # of one image only
PLENTY = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.mark.parametrize("strategy", ["auto", "conv_first"])
@PLENTY
@given(problem=problems())
def test_strategies_agree_with_the_definition(strategy, problem):
    shape, *tensors = problem
    assert_agree(
        partial(by_definition, shape=shape), partial(mixed_conv, shape=shape, strategy=strategy), tensors
    )


@pytest.mark.parametrize("way", WAYS)
@PLENTY
@given(problem=problems())
def test_ways_agree_with_the_definition(way, problem):
    shape, *tensors = problem
    with pytest.MonkeyPatch.context() as patch:
        # So that there are several pieces, and a last one that is smaller.
        patch.setattr(mixing, "images_at_a_time", lambda shape, size: 2)
        assert_agree(partial(by_definition, shape=shape), partial(run_way, way, shape=shape), tensors)


@pytest.mark.parametrize("way", ["whole", "pieces", "images", "unfold"])
@PLENTY
@given(problem=problems())
def test_generated_kernels_agree_with_a_bank_of_them(way, problem):
    shape, x, bank, coefficients, bias = problem
    kernels = mix(bank, coefficients, shape)
    each = torch.eye(len(x))  # every image's expert is its own kernel
    assert_agree(
        lambda x, kernels, bias: by_definition(x, kernels, each, bias, shape),
        lambda x, kernels, bias: run_each(way, x, kernels, bias, shape),
        (x, kernels, bias),
    )


def test_a_way_without_its_bank_is_refused():
    with pytest.raises(ValueError, match="no bank that the way 'wide' could convolve"):
        run_each("wide", torch.randn(2, 3, 4, 4), torch.randn(2, 3, 3, 1, 1), None, ConvShape(3, 3))


@pytest.mark.parametrize(
    "shape", [ConvShape(2, 3, 3), ConvShape(2, 3, 1, 2), ConvShape(4, 4, 3, 2, 4)], ids=str
)
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("images", [1, 2])
def test_pieces_have_the_numerical_gradient(shape, per_channel, images):
    torch.manual_seed(0)
    x = torch.randn(3, shape.in_channels, 4, 3, dtype=torch.double, requires_grad=True)
    bank = torch.randn(2, *shape.weight, dtype=torch.double, requires_grad=True)
    size = (3, shape.out_channels, 2) if per_channel else (3, 2)
    coefficients = torch.rand(size, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda *tensors: conv_in_pieces(*tensors, shape, images), (x, bank, coefficients)
    )


@pytest.mark.parametrize("wanted", ["x", "bank", "coefficients"])
def test_pieces_compute_only_the_gradients_that_are_asked_for(wanted):
    shape = ConvShape(2, 3, 3)
    tensors = {
        "x": torch.randn(3, 2, 4, 4),
        "bank": torch.randn(2, *shape.weight),
        "coefficients": torch.rand(3, 2),
    }
    tensors[wanted].requires_grad_()
    found, expected = (
        torch.autograd.grad(run_way(way, *tensors.values(), None, shape).square().sum(), tensors[wanted])[0]
        for way in ("pieces", "whole")
    )
    assert_close(found, expected)


@pytest.mark.parametrize("shape", [ConvShape(8, 6), ConvShape(8, 6, 3)], ids=str)
@pytest.mark.parametrize("way", WAYS)
def test_autocast_computes_in_bfloat16_and_learns_in_float32(shape, way):
    torch.manual_seed(0)
    x, bank = torch.randn(3, 8, 5, 5), torch.randn(2, *shape.weight).requires_grad_()
    coefficients = torch.rand(3, 2).requires_grad_()
    expected = run_way("whole", x, bank, coefficients, None, shape)
    with torch.autocast("cpu", torch.bfloat16):
        y = run_way(way, x, bank, coefficients, None, shape)
    assert_close(y.float(), expected, rtol=0.05, atol=0.2)
    y.float().sum().backward()
    assert bank.grad.dtype == coefficients.grad.dtype == torch.float32


def test_mix_of_two_experts_worked_by_hand():
    bank = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]]).view(2, 2, 2, 1, 1)
    shape = ConvShape(2, 2)
    per_layer = mix(bank, torch.tensor([[1.0, 0.5]]), shape)
    assert per_layer.flatten().tolist() == [6, 12, 18, 24]
    per_channel = mix(bank, torch.tensor([[[1.0, 0.5], [0.0, 2.0]]]), shape)
    assert per_channel.flatten().tolist() == [6, 12, 60, 80]


@pytest.mark.parametrize("way", ["whole", "pieces", "images"])
def test_pointwise_keeps_channels_last(way):
    x = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)
    y = run_way(way, x, torch.randn(3, 6, 4, 1, 1), torch.rand(2, 3), None, ConvShape(4, 6))
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "batch", "size", "experts", "way"),
    [
        (ConvShape(64, 64), 1, 14, 4, "plain"),
        (ConvShape(64, 64, 3), 1, 14, 4, "plain"),
        (ConvShape(64, 64), 128, 14, 4, "whole"),
        (ConvShape(512, 512), 128, 14, 4, "pieces"),  # 128 MiB of kernels
        (ConvShape(64, 64, 3), 16, 14, 4, "whole"),
        (ConvShape(64, 64, 3, groups=64), 128, 28, 4, "whole"),
        (ConvShape(512, 512, 3), 16, 7, 2, "wide"),
        (ConvShape(512, 512), 128, 7, 2, "pieces"),
        (ConvShape(512, 512, 3), 16, 7, 4, "pieces"),
        (ConvShape(512, 512, 3), 16, 7, 0, "pieces"),  # generated kernels have no bank
    ],
    ids=str,
)
def test_the_rule(shape, batch, size, experts, way):
    assert by_rule(shape, batch, (size, size), experts, "cpu") == way
    assert by_rule(shape, batch, (size, size), experts, "cuda") == ("plain" if batch == 1 else "whole")


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_program_holds_no_pieces(kernel):
    """What is exported is made of torch's operators, also for a batch that would go in pieces."""
    shape = ConvShape(3, 3, kernel)

    class Conv(torch.nn.Module):
        def forward(self, x, bank, coefficients):
            return mixed_conv(x, bank, coefficients, None, shape, "auto")

    inputs = torch.randn(2, 3, 4, 4), torch.randn(2, *shape.weight), torch.rand(2, 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choice, "KERNELS_IN_ONE", 0)
        patch.setattr(choice, "PRODUCTS_IN_ONE", 0)
        program = torch.export.export(Conv(), inputs)
    assert {node.target.namespace for node in program.graph.nodes if node.op == "call_function"} == {"aten"}
    assert_close(program.module()(*inputs), Conv()(*inputs))


def test_convolve_each_takes_the_rule():
    shape, x, kernels = ConvShape(3, 4, 3), torch.randn(2, 3, 5, 5), torch.randn(2, 4, 3, 3, 3)
    assert_close(convolve_each(x, kernels, None, shape), run_each("whole", x, kernels, None, shape))


def test_pieces_fit_the_cache():
    assert images_at_a_time(ConvShape(512, 512), (7, 7)) == 4  # kernels of 1 MiB
    assert images_at_a_time(ConvShape(64, 64, 3, 2, 64), (56, 56)) == 8  # images of 784 KiB, results of 196
    assert images_at_a_time(ConvShape(2048, 2048, 3), (7, 7)) == 1
