"""Comparing our modules with ones that we did not write."""

import torch
from torch.testing import assert_close

from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively


def copy_weights(ours, theirs, parts):
    """Give our module their values, which may come in other shapes (flat banks, 1x1 for linear)."""
    state = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        part, leaf = name.rsplit(".", 1)
        tensor.copy_(state.pop(f"{parts[part]}.{leaf}").view_as(tensor))
    assert not state


def assert_same(ours, theirs, x):
    """Equal outputs, and equal gradients of the input."""
    ours_x, theirs_x = x.clone().requires_grad_(), x.clone().requires_grad_()
    y = theirs(theirs_x)
    assert_close(ours(ours_x), y, rtol=1e-5, atol=1e-5)
    towards = torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    (ours(ours_x) * towards).sum().backward()
    (y * towards).sum().backward()
    assert_close(ours_x.grad, theirs_x.grad, rtol=1e-4, atol=1e-4)


def assert_block_is(theirs, config, parts):
    """Our block of this config computes what theirs does, and learns so, with the same weights."""
    lively(theirs).eval()
    ours = build(config).eval()
    copy_weights(ours, theirs, parts)
    assert_same(ours, theirs, torch.randn(3, config.in_channels, 7, 7))
