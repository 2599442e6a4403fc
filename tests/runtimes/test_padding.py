"""Channels of zeros between two dense convolutions: the answers stay, and all is laid out."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from support.gated import gated_config, undecided
from support.graphs import session_of
from support.networks import images
from test_layout_boundaries import says_the_same
from test_packing import count, needs_blocks, nodes
from torch import nn

from dynnas.runtimes.onnx.graph import to_onnx, to_packed_onnx
from dynnas.runtimes.onnx.graph_index import attribute
from dynnas.runtimes.onnx.packing.layout import block_size, optimise
from dynnas.runtimes.onnx.packing.padding import ALIGNED, pad_depthwise
from dynnas.runtimes.onnx.trace import trace

ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.Sigmoid, nn.Identity)


class Summed(nn.Module):
    """A depthwise convolution whose sum with its input goes on."""

    def __init__(self, channels):
        super().__init__()
        self.conv = depthwise(channels)

    def forward(self, x):
        return x + self.conv(x)


def depthwise(channels):
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


def chain(*between, before=4, channels=9, after=8):
    return nn.Sequential(
        nn.Conv2d(before, channels, 1), *between, nn.Conv2d(channels, after, 1, bias=False)
    ).eval()


def graphs(module, channels=4):
    """As it is and padded, and an image for both."""
    x = torch.randn(1, channels, 6, 6)
    plain, padded = (trace(module, x, ["image"], ["features"]) for _ in range(2))
    pad_depthwise(padded)
    return plain, padded, x


def answer(model, x):
    session = session_of(model.SerializeToString())
    return session.run(None, {"image": x.numpy()})[0]


def depthwise_domains(model):
    """Where the depthwise convolutions come from that are run in the end."""
    convolutions = (node for node in optimise(model, "ORT_ENABLE_ALL").graph.node if "Conv" in node.op_type)
    return {node.domain for node in convolutions if attribute(node, "group") > 1}


@needs_blocks
@settings(max_examples=40, deadline=None)
@given(
    st.integers(2, 40),
    st.lists(st.sampled_from(["depthwise", "summed", *ACTIVATIONS]), min_size=1, max_size=5),
    st.integers(0, 3),
)
def test_answers_stay_and_depthwise_convolutions_are_laid_out(channels, kinds, seed):
    torch.manual_seed(seed)
    made = {"depthwise": depthwise, "summed": Summed}
    module = chain(*(made[kind](channels) if kind in made else kind() for kind in kinds), channels=channels)
    plain, padded, x = graphs(module)
    assert_allclose(answer(padded, x), answer(plain, x), rtol=1e-5, atol=1e-5)
    assert_allclose(answer(padded, x), module(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    if {"depthwise", "summed"} & {*kinds}:
        assert depthwise_domains(padded) == {"com.microsoft.nchwc"}
    else:
        assert padded == plain


class Twice(nn.Module):
    """Something else looks at what lies between."""

    def __init__(self, between):
        super().__init__()
        self.first, self.between, self.last = nn.Conv2d(4, 9, 1), between, nn.Conv2d(9, 8, 1)

    def forward(self, x):
        y = self.between(self.first(x))
        return self.last(y) + y.mean()


@pytest.mark.parametrize(
    "module",
    [
        Twice(depthwise(9)),
        chain(depthwise(9), nn.AdaptiveAvgPool2d(1)),
        chain(depthwise(9), nn.PReLU(9)),
        nn.Sequential(nn.Conv2d(4, 9, 1), depthwise(9)),
        nn.Sequential(nn.Conv2d(4, 9, 1), depthwise(9), nn.Conv2d(9, 6, 1, groups=3)),
        chain(depthwise(24), channels=24) if block_size() <= 24 else chain(),
    ],
    ids=["read elsewhere", "pooled", "by channel", "given out", "read by groups", "laid out as it is"],
)
def test_what_is_read_in_another_way_is_left_alone(module):
    plain, padded, _ = graphs(module.eval())
    assert padded == plain


@needs_blocks
@pytest.mark.parametrize("gate", ["routes", "tree"])
def test_the_small_branches_of_a_gate_are_laid_out(gate):
    network = undecided(gated_config((gate, gate), width=1))
    sizes = {
        tensor.dims[0]
        for model in [to_onnx(network)]
        for node in nodes(model.graph)
        for attribute in node.attribute
        for tensor in attribute.g.initializer
        if len(tensor.dims) == 4
    }
    assert any(size % ALIGNED for size in sizes), "a branch that the layout does not know"
    model = to_packed_onnx(network)
    found = [node.domain for node in nodes(model.graph) if "Conv" in node.op_type]
    assert found.count("com.microsoft.nchwc") == len(found)
    assert count(model, "ReorderInput") <= 1
    says_the_same(model, network, images(12))


def test_a_kernel_that_two_convolutions_share_grows_once_for_each_use():
    shared = nn.Conv2d(9, 9, 1)
    module = nn.Sequential(nn.Conv2d(4, 9, 1), depthwise(9), shared, depthwise(9), shared).eval()
    plain, padded, x = graphs(module)
    assert_allclose(answer(padded, x), answer(plain, x), rtol=1e-5, atol=1e-5)
    assert np.isfinite(answer(padded, x)).all()
