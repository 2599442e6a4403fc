"""Random mixed convolutions, and what they must give by definition."""

import torch
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.nn.layers.conv_shape import ConvShape


def by_definition(x, bank, coefficients, bias, shape):
    """Every image alone, with its kernel summed expert by expert."""
    rows = []
    for index, (image, weights) in enumerate(zip(x, coefficients, strict=True)):
        if weights.dim() == 1:
            kernel = sum(weight * expert for weight, expert in zip(weights, bank, strict=True))
        else:
            kernel = torch.stack(
                [sum(weights[c, m] * bank[m, c] for m in range(len(bank))) for c in range(shape.out_channels)]
            )
        own = bias[index] if bias is not None and bias.dim() == 2 else bias
        rows.append(
            F.conv2d(image[None], kernel, own, shape.stride, shape.padding, shape.dilation, shape.groups)
        )
    return torch.cat(rows)


@st.composite
def problems(draw):
    """A shape, and x, bank, coefficients and bias; sizes, groups, strides and memory formats of all kinds."""
    groups, per_group_in, per_group_out = (draw(st.integers(1, 3)) for _ in range(3))
    shape = ConvShape(
        groups * per_group_in,
        groups * per_group_out,
        kernel=draw(st.sampled_from([1, 3, 5])),
        stride=draw(st.sampled_from([1, 2])),
        groups=groups,
        **draw(st.sampled_from([{}, {"dilation": 2}, {"padding": 3}, {"padding": 4, "dilation": 2}])),
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
    of_image = (batch,) if draw(st.booleans()) else ()
    bias = torch.randn(*of_image, shape.out_channels, generator=generator) if draw(st.booleans()) else None
    return shape, x, bank, coefficients, bias


def assert_agree(first, second, tensors):
    """Two functions of tensors (or None) have equal results and equal gradients, to 1e-5."""
    results = []
    for run in (first, second):
        leaves = [t if t is None else t.clone().requires_grad_() for t in tensors]
        y = run(*leaves)
        (y * torch.linspace(-1, 1, y.numel()).view(y.shape)).sum().backward()
        results.append((y, *(leaf.grad for leaf in leaves if leaf is not None)))
    for expected, found in zip(*results, strict=True):
        assert_close(found, expected, rtol=1e-5, atol=1e-5)
