"""The spatial transformer: against torch's affine grids, from its start, and as an image is moved."""

import pytest
import torch
from torch.nn import functional as F

from dynnas.nn.attentions.spatial_transformer import SpatialTransformer, place_means
from dynnas.nn.registry import ATTENTIONS
from dynnas.testing.conformance import lively


@pytest.mark.parametrize("size", [(9, 8), (3, 5), (1, 1), (16, 4)])
@torch.no_grad()
def test_places_are_those_of_adaptive_pooling(size):
    x = torch.randn(2, 3, *size)
    torch.testing.assert_close(place_means(x), F.adaptive_avg_pool2d(x, 4))


@torch.no_grad()
def test_it_warps_as_torchs_affine_grid_does():
    ours = lively(ATTENTIONS["stn"](20)).eval()
    assert isinstance(ours, SpatialTransformer)
    x = torch.randn(3, 20, 9, 6)
    pooled = F.adaptive_avg_pool2d(x, 4)
    hidden = ours.reduce.norm(F.conv2d(pooled, ours.reduce.conv.weight)).relu()
    theta = F.linear(hidden.flatten(1), ours.locate.weight, ours.locate.bias).view(3, 2, 3)
    grid = F.affine_grid(theta, x.shape, align_corners=False)
    torch.testing.assert_close(ours(x), F.grid_sample(x, grid, align_corners=False), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_it_begins_as_the_identity():
    x = torch.randn(2, 16, 7, 5)
    torch.testing.assert_close(ATTENTIONS["stn"](16).eval()(x), x)


def test_gradients_reach_what_finds_the_warp():
    """Against differences in float64."""
    layer = lively(ATTENTIONS["stn"](4)).double().eval()
    with torch.no_grad():
        layer.locate.weight.mul_(0.05)
        layer.locate.bias.mul_(0.05).add_(torch.tensor([0.9, 0.1, 0.03, -0.1, 0.9, 0.05]))
    x = torch.randn(2, 4, 5, 6, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x, atol=1e-6)
    layer(x).square().sum().backward()
    assert bool(layer.locate.bias.grad.abs().gt(1e-3).all())
