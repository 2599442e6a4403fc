"""What gates ask, in few operators: the same answer, and nothing put together to be taken apart."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from support.gated import gated_config, undecided
from support.graphs import session_of
from support.networks import config, finished, images
from test_layout_boundaries import says_the_same
from test_packing import count, needs_blocks, nodes
from torch import nn

from dynnas.runtimes.onnx.gate_logits import split_in_place, subtract_votes
from dynnas.runtimes.onnx.graph import to_onnx, to_packed_onnx
from dynnas.runtimes.onnx.packing.layout import block_size, optimise
from dynnas.runtimes.onnx.packing.packing import pack_between
from dynnas.runtimes.onnx.trace import trace


class Layer(nn.Module):
    """Votes of a linear layer."""

    def __init__(self, votes=2, bias=True):
        super().__init__()
        self.layer = nn.Linear(5, votes, bias=bias)

    def forward(self, x):
        return self.layer(x).flatten().split(1)


class Beside(nn.Module):
    """Votes, one of them a constant."""

    def forward(self, x):
        first = x[:, :1]
        return torch.cat([torch.full_like(first, 0.01), first], 1).flatten().split(1)


def question(module, votes=2):
    names = [f"logit{index}" for index in range(votes)]
    return trace(module.eval(), torch.zeros(1, 5), ["image"], names)


def answers(model, x):
    session = session_of(model.SerializeToString())
    return [session.run(None, {"image": row[None].numpy()}) for row in x]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sampled_from([Layer, Beside]))
@torch.no_grad()
def test_two_votes_are_compared_as_before(seed, kind):
    torch.manual_seed(seed)
    module = kind()
    plain, asked = question(module), question(module)
    subtract_votes(asked)
    assert count(plain, "Split") == 1
    assert count(asked, "Split") == 0
    x = torch.randn(20, 5)
    for image, before, after in zip(x, answers(plain, x), answers(asked, x), strict=True):
        assert [vote.shape for vote in after] == [(1,), (1,)]
        assert (before[0] >= before[1]) == (after[0] >= after[1])
        first, second = module(image[None])
        assert_allclose(after[0] - after[1], first - second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("module", "votes"), [(Layer(3), 3), (Layer(bias=False), 2)])
def test_other_questions_stay_as_they_are(module, votes):
    plain, asked = question(module, votes), question(module, votes)
    subtract_votes(asked)
    assert asked == plain


@torch.no_grad()
def test_more_votes_are_split_where_they_are():
    module = Layer(4)
    plain, asked = question(module, 4), question(module, 4)
    split_in_place(asked)
    assert count(optimise(plain, "ORT_ENABLE_BASIC"), "Reshape") == 1
    assert count(optimise(asked, "ORT_ENABLE_BASIC"), "Reshape") == 0
    x = torch.randn(9, 5)
    for before, after in zip(answers(plain, x), answers(asked, x), strict=True):
        assert_allclose(np.concatenate(after)[:, 0], np.concatenate(before), rtol=1e-6)


@needs_blocks
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 20), st.booleans())
@torch.no_grad()
def test_pooled_maps_are_read_as_they_lie(quarter, takes):
    """Also where the last block of channels is not full."""
    channels = 4 * quarter
    pooled = nn.Sequential(
        nn.Conv2d(channels, channels, 3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 6), nn.ReLU(), nn.Linear(6, 3)
    )  # fmt: skip
    x = torch.randn(1, channels, 6, 6)
    model, _ = pack_between(trace(pooled.eval(), x, ["image"], ["said"]), takes, False)
    if channels >= block_size():
        assert count(model, "ReorderOutput") == 0
    if takes:
        full = -(-channels // block_size())
        filled = nn.functional.pad(x, (0, 0, 0, 0, 0, full * block_size() - channels))
        x_given = filled.unflatten(1, (full, -1)).permute(0, 1, 3, 4, 2).reshape(filled.shape)
    else:
        x_given = x
    session = session_of(model.SerializeToString())
    (said,) = session.run(None, {"image": x_given.contiguous().numpy()})
    assert_allclose(said, pooled(x).numpy(), rtol=1e-4, atol=1e-5)


@needs_blocks
def test_gates_start_few_operators():
    network = undecided(gated_config(("skip", "width"), width=2))
    model = to_packed_onnx(network)
    network_nodes = [node for node in model.graph.node if not node.output[0].startswith("guard/")]
    kinds = [node.op_type for node in network_nodes]  # those of branches are not among them
    expected = {"If": 2, "FusedGemm": 2, "MatMul": 1, "Split": 1, "Max": 2, "GreaterOrEqual": 2}
    unneeded = dict.fromkeys(("Relu", "Reshape", "Concat", "Slice"), 0)
    assert {kind: kinds.count(kind) for kind in (*expected, *unneeded)} == {**expected, **unneeded}
    says_the_same(model, network, images(20))


@needs_blocks
@pytest.mark.parametrize("activation", ["relu", "hswish", "silu"])
def test_channels_are_scaled_without_leaving_the_layout(activation):
    """Squeeze-and-excitation, in a network without any other dynamic operation."""
    network = finished(config("mbconv", attention="se", activation=activation, width=4))
    model = to_packed_onnx(network)
    scaled = [
        node for node in nodes(model.graph) if "Conv" in node.op_type and node.input[1].startswith("dynamic")
    ]
    assert len(scaled) == 3, "a block each"
    assert count(to_onnx(network), "Mul") - count(model, "Mul") >= 3
    says_the_same(model, network, images(9))


@needs_blocks
def test_experts_are_asked_for_once():
    """What is chosen is told how much it counts, and multiplies its channels without leaving the layout."""
    network = undecided(gated_config(("moe", "moe"), width=2))
    model = to_packed_onnx(network)
    for kind in ("GlobalAveragePool", "FusedGemm"):
        assert count(model, kind) == sum(node.op_type == kind for node in model.graph.node) > 0, kind
    assert count(model, "Softmax") > 0
    assert count(model, "ReorderInput") <= 1
    says_the_same(model, network, images(20))
