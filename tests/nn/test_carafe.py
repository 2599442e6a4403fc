"""CARAFE against loops over pixels, torch's mean, the paper's count, its graph and its sharing."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dynnas.nn import Carafe
from dynnas.nn.layers.macs import count_macs
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet


def lively(module):
    with torch.no_grad():
        for value in module.parameters():
            value.normal_(generator=torch.Generator().manual_seed(value.numel()))
    return module.eval()


@torch.no_grad()
@pytest.mark.parametrize("hidden", [6, None])
def test_new_pixels_are_weighted_sums_of_old_ones(hidden):
    """As mmcv's reference: kernels by pixel shuffle, softmax over each, zeros outside of the map."""
    scale, kernel, x = 2, 3, torch.randn(2, 4, 3, 5)
    module = lively(Carafe(4, scale, kernel=kernel, hidden=hidden))
    (encode,) = module.encode.values()
    assert isinstance(module.compress, nn.Identity) == (hidden is None)
    masks = F.pixel_shuffle(encode(module.compress(x)), scale)
    masks = masks.view(2, kernel**2, 3 * scale, 5 * scale).softmax(1)
    padded, y = F.pad(x, (1, 1, 1, 1)), torch.empty(2, 4, 3 * scale, 5 * scale)
    for row in range(3 * scale):
        for column in range(5 * scale):
            top, left = row // scale, column // scale
            patch = padded[:, :, top : top + kernel, left : left + kernel].flatten(2)
            y[:, :, row, column] = (patch * masks[:, None, :, row, column]).sum(2)
    torch.testing.assert_close(module(x), y)


@torch.no_grad()
def test_it_begins_as_a_mean():
    x = torch.randn(1, 3, 4, 4)
    mean = F.avg_pool2d(x, 5, stride=1, padding=2)
    torch.testing.assert_close(Carafe(3)(x), F.interpolate(mean, scale_factor=2), atol=0.05, rtol=0)


def test_it_costs_what_was_published():
    # Section 3.3: 199 k FLOPs for a pixel of 256 channels, twice as large, biases counted.
    with torch.device("meta"):
        _, macs = count_macs(Carafe(256), torch.zeros(1, 256, 4, 4))
    assert 2 * (macs / 16 + 64 + 100) == 199_496


class Enlarging(nn.Module):
    def __init__(self, width=4, kernel=3, hidden=4):
        super().__init__()
        self.stem = nn.Conv2d(2, width, 3, padding=1)
        self.up = Carafe(width, kernel=kernel, hidden=hidden)
        self.head = nn.Conv2d(width, 3, 1)

    def forward(self, x):
        return self.head(self.up(self.stem(x)))


@torch.no_grad()
def test_it_is_exported_and_shared():
    x = torch.randn(1, 2, 4, 6)
    network = PlainNetwork(lively(Enlarging()), (2, 4, 6), 3).eval()
    runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    np.testing.assert_allclose(runner(x.numpy()), network(x).numpy(), rtol=1e-4, atol=1e-5)
    supernet = Supernet(Space.of(Enlarging, width=[4, 8], kernel=[3, 5])).eval()
    for values in ({"width": 4, "kernel": 5}, {"width": 8, "kernel": 3}):
        torch.testing.assert_close(supernet.extract(values)(x), supernet(values, x), rtol=0, atol=0)


def test_even_sizes_are_refused():
    with pytest.raises(ValueError, match=r"Carafe: scale 2, kernel 4, .* odd ones for kernel and encoder"):
        Carafe(3, kernel=4)
