"""odconv, involution, drconv, deform_kernel, acnet and dgc: loops over what the papers' formulas say."""

import pytest
import torch
from support.contexts import running
from torch.nn import functional as F
from torch.testing import assert_close

from dynnas.errors import SpaceError
from dynnas.nn import Conv2d
from dynnas.nn.dynamic_conv.mode import ConvMode, RouterMode
from dynnas.nn.kernels.deform_kernel import between
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.conv_shape import ConvShape, depthwise
from dynnas.testing.conformance import lively

DENSE, GROUPED, DEPTHWISE, POINTWISE = (
    ConvShape(4, 6, 3, 2),
    ConvShape(4, 6, 3, 1, groups=2),
    depthwise(4, 3, 2),
    ConvShape(4, 6),
)


def ordinary(x, weight, shape):
    return F.conv2d(x, weight, None, shape.stride, shape.padding, shape.dilation, shape.groups)


def made(op, shape, **knobs):
    return lively(KERNELS[op](shape, **knobs)).eval()


@pytest.mark.parametrize("strategy", ["auto", "conv_first"])
@pytest.mark.parametrize("shape", [DENSE, GROUPED, DEPTHWISE, POINTWISE])
@torch.no_grad()
def test_odconv_against_its_equation(shape, strategy):
    conv = running(made("odconv", shape, experts=3), ConvMode(strategy), RouterMode(temperature=2.0))
    x, router = torch.randn(2, 4, 5, 6), conv.odconv_router
    for image, y in zip(x, conv(x), strict=True):
        v = F.relu(router.reduce(image.mean((1, 2))))
        experts = torch.softmax(router.experts(v) / 2, 0)
        kernel = sum(a * weight for a, weight in zip(experts, conv.weight, strict=True))
        inputs = torch.sigmoid(router.inputs(v) / 2)
        if shape.groups == 1:
            kernel = kernel * inputs[:, None, None]
        else:
            inputs_each = shape.in_channels // shape.groups
            outputs_each = shape.out_channels // shape.groups
            for output in range(shape.out_channels):
                first = output // outputs_each * inputs_each
                kernel[output] *= inputs[first : first + inputs_each, None, None]
        if not shape.depthwise:
            kernel = kernel * torch.sigmoid(router.outputs(v) / 2)[:, None, None, None]
        if shape.kernel > 1:
            logits = torch.einsum("h,hyx->yx", v, router.taps.weight) + router.taps.bias
            kernel = kernel * torch.sigmoid(logits / 2)
        assert_close(y, ordinary(image[None], kernel, shape)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("channels", [20, 32])
@torch.no_grad()
def test_involution_against_a_loop_over_places(channels):
    shape = depthwise(channels, 3, 2)
    conv = made("involution", shape)
    generator = conv.involution_kernels
    x = torch.randn(2, channels, 6, 4)
    y = conv(x)
    pooled = generator.reduce(F.avg_pool2d(x, 2))
    padded = F.pad(x, (1, 1, 1, 1))
    for row in range(3):
        for column in range(2):
            kernels = torch.einsum("bh,ghyx->bgyx", pooled[:, :, row, column], generator.weight)
            kernels = (kernels + generator.bias).repeat_interleave(16, dim=1)[:, :channels]
            seen = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            assert_close(y[:, :, row, column], (seen * kernels).sum((2, 3)), rtol=1e-4, atol=1e-4)


def test_involution_takes_half_of_an_odd_kernel_as_padding():
    with pytest.raises(SpaceError, match="odd kernel and half of it as padding, not 3 pixels and 0"):
        Conv2d(8, 8, 3, groups=8, op="involution")


@pytest.mark.parametrize("shape", [DENSE, GROUPED, POINTWISE])
@torch.no_grad()
def test_drconv_convolves_each_region_with_its_own_mixture(shape):
    conv = made("drconv", shape, experts=3, regions=2)
    x = torch.randn(2, 4, 5, 6)
    region = F.conv2d(x, conv.drconv_regions.weight, None, shape.stride, shape.padding).argmax(1)
    assert region.unique().tolist() == [0, 1]
    y = conv(x)
    for image in range(2):
        pooled = x[image].mean((1, 2))
        for number in range(2):
            logits = conv.drconv_mixtures.weight[number] @ pooled + conv.drconv_mixtures.bias[number]
            kernel = torch.einsum("m,moihw->oihw", 2 / 3 * torch.sigmoid(logits), conv.weight)
            expected = ordinary(x[image][None], kernel, shape)[0]
            here = region[image] == number
            assert_close(y[image][:, here], expected[:, here], rtol=1e-4, atol=1e-4)


def test_regions_learn_by_the_softmax():
    conv = KERNELS["drconv"](DENSE).train()
    conv(torch.randn(2, 4, 5, 6)).square().sum().backward()
    assert conv.drconv_regions.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_shares_of_points_are_bilinear_interpolation():
    points, positions = torch.randn(1, 1, 5, 5), 4 * torch.rand(2, 7)
    positions[:, 0] = torch.tensor([4.0, 0.0])
    down, right = between(positions, 5)
    grid = (positions.flip(0).T / 2 - 1)[None, None]  # columns first, from -1 to 1
    expected = F.grid_sample(points, grid, align_corners=True)[0, 0, 0]
    assert_close(torch.einsum("tq,tp,qp->t", down, right, points[0, 0]), expected)


@pytest.mark.parametrize("strategy", ["auto", "conv_first"])
@pytest.mark.parametrize("shape", [DENSE, GROUPED, DEPTHWISE])
@torch.no_grad()
def test_deform_kernel_samples_its_space(shape, strategy):
    conv = running(made("deform_kernel", shape), ConvMode(strategy))
    x = torch.randn(2, 4, 5, 6)
    offsets = conv.deform_kernel_offsets
    for image, y in zip(x, conv(x), strict=True):
        move = torch.einsum("c,acyx->ayx", image.mean((1, 2)), offsets.weight) + offsets.bias
        rows, columns = torch.meshgrid(torch.arange(1.0, 4), torch.arange(1.0, 4), indexing="ij")
        rows, columns = (rows + move[0]).clamp(0, 4), (columns + move[1]).clamp(0, 4)
        grid = torch.stack([columns / 2 - 1, rows / 2 - 1], dim=-1)[None]
        space = conv.weight.flatten(0, 1)[None]
        kernel = F.grid_sample(space, grid, align_corners=True).view(shape.weight)
        assert_close(y, ordinary(image[None], kernel, shape)[0], rtol=1e-4, atol=1e-4)


def test_a_deformable_kernel_starts_as_the_centre_of_its_space_and_can_leave_it():
    conv = KERNELS["deform_kernel"](DENSE, margin=2)
    x = torch.randn(2, 4, 5, 6)
    y = conv(x)
    assert_close(y, ordinary(x, conv.weight[:, :, 2:5, 2:5], DENSE), rtol=1e-4, atol=1e-5)
    y.square().sum().backward()
    assert conv.deform_kernel_offsets.bias.grad.abs().min() > 0


@pytest.mark.parametrize("shape", [DENSE, DEPTHWISE])
@torch.no_grad()
def test_acnet_against_its_equation(shape):
    conv = made("acnet", shape)
    x, parts = torch.randn(2, 4, 5, 6), conv.acnet_global
    local = ordinary(x, conv.weight, shape)
    everywhere = parts.expand(F.relu(parts.reduce(x.mean((2, 3)))))
    y = conv(x)
    for row in range(local.shape[2]):
        for column in range(local.shape[3]):
            here = local[:, :, row, column]
            hidden = F.relu(torch.cat([here, everywhere], 1) @ parts.compare.weight[:, :, 0, 0].T)
            gate = torch.sigmoid(hidden @ parts.count.weight[:, :, 0, 0].T)
            assert_close(y[:, :, row, column], here + everywhere * gate, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("outputs", [6, 8])
@pytest.mark.parametrize("batch", [1, 3])
@torch.no_grad()
def test_dgc_convolves_the_channels_that_each_head_chose(batch, outputs):
    shape = ConvShape(8, outputs, 3, 2)
    conv = made("dgc", shape, heads=4, kept_inputs=0.3)
    x, parts = torch.randn(batch, 8, 5, 6), conv.dgc_saliency
    for image, y in zip(x, conv(x), strict=True):
        pooled = image.mean((1, 2))
        for output in range(outputs):
            head = output % 4
            hidden = F.relu(parts.reduce[head] @ pooled)
            saliency = F.relu(parts.expand[head] @ hidden + parts.bias[head])
            kept = sorted(range(8), key=lambda channel: -saliency[channel])[:3]
            expected = sum(
                F.conv2d(saliency[c] * image[c][None, None], conv.weight[output, c][None, None], None, 2, 1)
                for c in kept
            )
            assert_close(y[output], expected[0, 0], rtol=1e-4, atol=1e-4)
