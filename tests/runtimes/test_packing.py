"""Graphs packed for this processor say what the network says, and rearrange nothing for an image."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.networks import config, finished, images, one_by_one

from dynnas.errors import TargetError
from dynnas.nn.registry import ACTIVATIONS
from dynnas.runtimes.onnx.graph import to_onnx, to_packed_onnx
from dynnas.runtimes.onnx.packing.layout import (
    MOST_NUMBERS,
    block_size,
    number_of,
    numbered,
    positions,
)
from dynnas.runtimes.onnx.session import PACKED_FOR, OnnxRunner

MIXING = ("condconv", "dyconv", "dynet", "dynet_layer", "weightnet")
WIDE = {"width": 3}  # 18, 24 and 36 channels: blocks of 8 or 16 are filled up

needs_blocks = pytest.mark.skipif(block_size() == 1, reason="ONNX Runtime packs no kernels on this processor")


@torch.no_grad()
def agrees(network):
    batch = images(9)
    model = to_packed_onnx(network)
    answers = one_by_one(OnnxRunner(model.SerializeToString(), threads=1), batch)
    assert_allclose(answers, network(batch).numpy(), rtol=1e-4, atol=1e-4)
    return model


def nodes(graph):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def count(model, kind):
    """Operators of the network, without those of the check for processors."""
    return sum(node.op_type == kind for node in nodes(model.graph) if not node.output[0].startswith("guard/"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("op", "width"), combinations(MIXING, [2, 4, 5], every=3))
def test_whole_and_broken_blocks_of_channels(op, width):
    agrees(finished(config("mbconv", op, attention="se", width=width)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(activation):
    agrees(finished(config(op="dyconv", activation=activation, **WIDE)))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("op", "exits"), combinations(MIXING, [1, 2], every=2))
def test_each_image_leaves_where_it_should(op, exits):
    model = agrees(finished(config(op=op, exits=exits, **WIDE)))
    assert count(model, "If") == exits


@pytest.mark.sampled(3)
@needs_blocks
@pytest.mark.parametrize("op", MIXING)
def test_mixed_kernels_run_as_fast_ones_and_the_maps_stay_as_they_lie(op):
    model = to_packed_onnx(finished(config("mbconv", op, width=4)))
    size = {tensor.name: np.prod(tensor.dims) for tensor in model.graph.initializer}
    mixed = [node for node in model.graph.node if "Conv" in node.op_type and node.input[1] not in size]
    # A convolution over a constant is the mixing of a bank.
    kernels = [node for node in mixed if node.input[0] not in size]
    assert len(kernels) == 9, "three blocks of three"
    assert {node.domain for node in mixed} == {"com.microsoft.nchwc"}
    coefficients = 2 * 2 * 96
    assert all(size[node.input[1]] <= coefficients for node in model.graph.node if node.op_type == "Gather")
    # Feature maps are laid out once, after the stem at the latest.
    assert count(model, "ReorderInput") <= 1


def test_a_static_network_is_left_alone():
    network = finished(config(**WIDE))
    assert to_packed_onnx(network) == to_onnx(network)


@needs_blocks
@pytest.mark.parametrize("block", [4, 32])
def test_a_model_packed_for_another_processor_fails(block, monkeypatch):
    network = finished(config(op="condconv", exits=1, **WIDE))
    model = to_packed_onnx(network)
    onnx.checker.check_model(model, full_check=True)
    assert {entry.key: entry.value for entry in model.metadata_props} == {
        PACKED_FOR: f"blocks of {block_size()} channels"
    }
    monkeypatch.setattr("dynnas.runtimes.onnx.packing.guard.block_size", lambda: block)
    other = to_packed_onnx(network).SerializeToString()
    with pytest.raises(TargetError, match=rf"with blocks of {block} channels.*portable model\.onnx"):
        OnnxRunner(other, threads=1)
    # Any other program is told too.
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(other, options)
    with pytest.raises(Exception, match=r"this graph is packed for .* use model\.onnx"):
        session.run(["exit"], {"image": images(1).numpy()})


def test_a_kernel_that_cannot_be_found_again_leaves_the_graph_portable(monkeypatch):
    monkeypatch.setattr("dynnas.runtimes.onnx.packing.packing.number_of", lambda tensor: None)
    network = finished(config(op="condconv", **WIDE))
    assert to_packed_onnx(network) == to_onnx(network)


def test_packed_models_load_from_a_file(tmp_path):
    model = to_packed_onnx(finished(config(op="dynet", exits=1, **WIDE)))
    onnx.save(model, tmp_path / "model.onnx")
    assert onnx.load(tmp_path / "model.onnx") == model


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    number=st.integers(0, MOST_NUMBERS - 1),
    padding=st.integers(0, 5),
    seed=st.integers(0, 9),
)
@settings(deadline=None, max_examples=60)
def test_a_stand_in_is_known_again_wherever_its_elements_went(shape, number, padding, seed):
    stand_in = numbered(shape, number)
    moved = np.concatenate([stand_in.ravel(), np.zeros(padding, np.float32)])
    np.random.default_rng(seed).shuffle(moved)
    assert number_of(moved) == number
    found = positions(moved, number)
    kept = found >= 0
    assert np.array_equal(moved[kept], stand_in.ravel()[found[kept]])
    assert kept.sum() == stand_in.size
    assert number_of(moved * np.float32(1.5)) is None
