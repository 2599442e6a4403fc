"""All ways to run a mixed kernel agree with the definition, in results and in gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.ops.conv_shape import ConvShape
from dynnas.ops.mixing import mix, mixed_conv


def by_definition(x, bank, coefficients, bias, shape):
    """Every image alone, with its kernel summed expert by expert."""
    rows = []
    for image, weights in zip(x, coefficients, strict=True):
        if weights.dim() == 1:
            kernel = sum(weight * expert for weight, expert in zip(weights, bank, strict=True))
        else:
            kernel = torch.stack(
                [sum(weights[c, m] * bank[m, c] for m in range(len(bank))) for c in range(shape.out_channels)]
            )
        rows.append(F.conv2d(image[None], kernel, bias, shape.stride, shape.padding, groups=shape.groups))
    return torch.cat(rows)


@st.composite
def problems(draw):
    groups, per_group_in, per_group_out = (draw(st.integers(1, 3)) for _ in range(3))
    shape = ConvShape(
        groups * per_group_in,
        groups * per_group_out,
        kernel=draw(st.sampled_from([1, 3, 5])),
        stride=draw(st.sampled_from([1, 2])),
        groups=groups,
    )
    batch, experts = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    size = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    x = torch.randn(batch, shape.in_channels, *size, generator=generator)
    if draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    per_channel = (shape.out_channels,) if draw(st.booleans()) else ()
    coefficients = torch.rand(batch, *per_channel, experts, generator=generator)
    bank = torch.randn(experts, *shape.weight, generator=generator)
    bias = torch.randn(shape.out_channels, generator=generator) if draw(st.booleans()) else None
    return shape, x, bank, coefficients, bias


@pytest.mark.parametrize("strategy", ["auto", "conv_first"])
@settings(max_examples=100, deadline=None, derandomize=True)
@given(problem=problems())
def test_strategies_agree_with_the_definition(strategy, problem):
    shape, *tensors = problem
    results = []
    for run in (by_definition, lambda *args: mixed_conv(*args, strategy)):
        x, bank, coefficients, bias = (t if t is None else t.clone().requires_grad_() for t in tensors)
        y = run(x, bank, coefficients, bias, shape)
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        results.append((y, x.grad, bank.grad, coefficients.grad, None if bias is None else bias.grad))
    for expected, found in zip(*results, strict=True):
        if expected is not None:
            assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_mix_of_two_experts_worked_by_hand():
    bank = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]]).view(2, 2, 2, 1, 1)
    shape = ConvShape(2, 2)
    per_layer = mix(bank, torch.tensor([[1.0, 0.5]]), shape)
    assert per_layer.flatten().tolist() == [6, 12, 18, 24]
    per_channel = mix(bank, torch.tensor([[[1.0, 0.5], [0.0, 2.0]]]), shape)
    assert per_channel.flatten().tolist() == [6, 12, 60, 80]


def test_pointwise_keeps_channels_last():
    x = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last)
    y = mixed_conv(x, torch.randn(3, 6, 4, 1, 1), torch.rand(2, 3), None, ConvShape(4, 6), "auto")
    assert y.is_contiguous(memory_format=torch.channels_last)
