"""Parts of a packed graph hand their maps over as they lie."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from onnx.helper import make_graph, make_model, make_node, make_opsetid, make_tensor_value_info
from onnx.numpy_helper import from_array
from support.gated import gated_config, undecided
from support.networks import config, finished, images, one_by_one
from test_packing import count, needs_blocks, nodes

from dynnas.runtimes.onnx.graph import to_onnx, to_packed_onnx
from dynnas.runtimes.onnx.packing import packing as onnx_packing
from dynnas.runtimes.onnx.packing.layout import block_size, optimise
from dynnas.runtimes.onnx.packing.layout_boundaries import BoundaryLostError, cut_boundaries, put_boundaries
from dynnas.runtimes.onnx.packing.packing import pack_between
from dynnas.runtimes.onnx.session import OnnxRunner

# Three blocks of 16, 16 and 24 channels.
WIDTH = 2


def says_the_same(model, network, batch):
    answers = one_by_one(OnnxRunner(model.SerializeToString(), threads=1), batch)
    with torch.no_grad():
        assert_allclose(answers, network(batch).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.sampled(2)
@needs_blocks
@pytest.mark.parametrize("op", ["static", "condconv"])
@pytest.mark.parametrize("kind", ["mbconv", "basic"])
def test_maps_are_laid_out_once_and_shortcuts_are_summed_by_convolutions(kind, op):
    network = undecided(gated_config(("skip", "width"), kind=kind, op=op, exits=1, width=WIDTH))
    model = to_packed_onnx(network)
    assert count(model, "If") == 1 + 1 + 3, "an exit, a block to skip, four widths"
    assert count(model, "ReorderInput") <= 1, "the image, if at all"
    assert count(to_onnx(network), "Add") >= 1, "a shortcut's sum"
    assert count(model, "Add") == 0
    says_the_same(model, network, images(20))


@needs_blocks
def test_maps_behind_an_exit_are_laid_out_already():
    network = finished(config(exits=2, width=WIDTH))
    model = to_packed_onnx(network)
    assert count(model, "ReorderInput") <= 1
    says_the_same(model, network, images(20))


@needs_blocks
def test_channels_that_the_layout_does_not_know_are_handed_over_plainly():
    network = finished(config("basic", exits=1, width=WIDTH))
    part = graph_of("Conv", 6)
    packed, laid_out = pack_between(part, takes=False, gives=None)
    assert not laid_out
    assert packed.graph.output[0].type.tensor_type.shape.dim[1].dim_value == 6
    says_the_same(to_packed_onnx(network), network, images(9))


@needs_blocks
def test_what_is_not_made_laid_out_is_not_rearranged_for_its_border():
    part = graph_of("Conv", 8)
    part.graph.node.append(make_node("Transpose", ["maps"], ["features"], perm=[0, 1, 3, 2]))
    part.graph.node[0].output[0] = "maps"
    assert pack_between(part, takes=False, gives=None)[1] is False
    packed, laid_out = pack_between(part, takes=False, gives=True)
    assert laid_out
    assert packed.graph.output[0].type.tensor_type.shape.dim[1].dim_value == block_size() * -(
        -8 // block_size()
    )


@needs_blocks
def test_a_lost_border_leaves_the_maps_as_they_are(monkeypatch):
    def lost(model, takes, gives):
        raise BoundaryLostError("not here")

    network = undecided(gated_config(("skip", "width"), width=WIDTH))
    monkeypatch.setattr(onnx_packing, "cut_boundaries", lost)
    model = to_packed_onnx(network)
    assert all(node.domain == "" for node in nodes(model.graph))
    says_the_same(model, network, images(9))


@needs_blocks
def test_a_border_that_took_something_in_is_lost():
    part = graph_of("Relu", 8)  # which the optimiser makes part of the convolution before it
    put_boundaries(part, takes=True, gives=False)
    with pytest.raises(BoundaryLostError, match="joined something to the convolution"):
        cut_boundaries(optimise(part, "ORT_ENABLE_ALL"), takes=True, gives=False)


def graph_of(kind, channels):
    """One operator from `image` to `features`, 5x5 pixels."""
    shape = [1, channels, 5, 5]
    kernel = np.eye(channels, dtype=np.float32).reshape(channels, channels, 1, 1) + 1
    inputs = ["image", "kernel"] if kind == "Conv" else ["image"]
    graph = make_graph(
        [make_node(kind, inputs, ["features"])],
        "part",
        [make_tensor_value_info("image", 1, shape)],
        [make_tensor_value_info("features", 1, shape)],
        [from_array(kernel, "kernel")] if kind == "Conv" else [],
    )
    return make_model(graph, opset_imports=[make_opsetid("", 18)], ir_version=9)
