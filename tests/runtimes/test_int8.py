"""Graphs in int8: near to float, smaller, branching as before, and quantised where they should be."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.gated import gated_config, undecided
from support.graphs import answer, session_of
from support.networks import config, finished, images, one_after_another

from dynnas.runtimes.onnx.assembly import graphs_in
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.int8.branches import run_graph
from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx


def outputs(model, batch):
    session = session_of(model.SerializeToString())
    return [session.run(None, {"image": image[None].numpy()}) for image in batch]


@pytest.mark.sampled(4)
@pytest.mark.parametrize("kind", ["mbconv", "conv", "basic"])
@pytest.mark.parametrize("op", ["static", "condconv", "dyconv"])
def test_int8_is_near_to_float_and_smaller(kind, op):
    network = finished(config(kind, op, attention="se", width=3))
    model = to_int8_onnx(network, images(64, seed=1))
    batch = images(40, seed=2)
    ours = np.concatenate([logits for (logits,) in outputs(model, batch)])
    with torch.no_grad():
        theirs = network(batch).numpy()
    assert np.abs(ours - theirs).max() < 0.15 * np.abs(theirs).max()
    assert (ours != theirs).any()
    assert (ours.argmax(1) == theirs.argmax(1)).mean() >= 0.9
    assert len(model.SerializeToString()) < 0.9 * len(to_onnx(network).SerializeToString())


def test_exits_still_branch():
    network = finished(config("conv", exits=2))
    model = to_int8_onnx(network, images(64, seed=1))
    batch = images(40, seed=2)
    taken = [int(exit[0]) for _, exit in outputs(model, batch)]
    with torch.no_grad():
        _, expected = one_after_another(network, batch)
    assert set(taken) == {0, 1, 2}
    assert np.mean(np.array(taken) == np.array(expected)) >= 0.8
    assert any(node.op_type == "If" for node in model.graph.node)


def test_kernels_are_int8_by_channel_and_mixed_ones_by_row():
    network = finished(config("conv", "condconv", width=3))
    model = to_int8_onnx(network, images(16))
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    large = [array for array in constants.values() if array.size >= 512]
    assert large
    assert all(array.dtype == np.int8 for array in large)
    scales = [
        constants[node.input[1]] for node in model.graph.node
        if node.op_type == "DequantizeLinear" and constants.get(node.input[0], np.zeros(0)).ndim == 4
    ]  # fmt: skip
    assert any(scale.size > 1 for scale in scales)
    onnx.checker.check_model(model, full_check=True)


def test_ranges_are_those_of_the_images():
    """A range set by images ten times as bright leaves few steps for ordinary ones."""
    network = finished(config("conv"))
    batch = images(40, seed=2)

    def error(calibration):
        ours = np.concatenate([logits for (logits,) in outputs(to_int8_onnx(network, calibration), batch)])
        with torch.no_grad():
            return float(np.abs(ours - network(batch).numpy()).mean())

    assert error(images(32, seed=1)) < 0.5 * error(10 * images(32, seed=1))


GATES = (("skip", "width"), ("width", "channels"), ("skip", "moe"), ("skip", "tree"), ("skip", "routes"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("exits", [0, 1])
@pytest.mark.parametrize("gates", GATES, ids="-".join)
def test_gates_still_branch(gates, exits):
    network = undecided(gated_config(gates, exits=exits, width=3))
    model = to_int8_onnx(network, images(64, seed=1))
    batch = images(40, seed=2)
    ours = np.concatenate([found[0] for found in outputs(model, batch)])
    theirs, _ = answer(network, batch)
    # Rounding leads a few images another way.
    differences = np.abs(ours - theirs).max(axis=1) / np.abs(theirs).max()
    assert np.quantile(differences, 0.75) < 0.15
    assert (differences > 0).any()
    inner = [node for graph in graphs_in(model.graph) for node in graph.node if graph is not model.graph]
    assert sum(node.op_type == "QuantizeLinear" for node in inner) >= 2
    onnx.checker.check_model(model, full_check=True)


def test_graphs_are_run_image_by_image_with_the_inputs_that_they_have():
    double = onnx.helper.make_node("Mul", ["image", "two"], ["features"])
    two = numpy_helper.from_array(np.float32([2.0]), "two")
    value = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 1])
    made = onnx.helper.make_tensor_value_info("features", onnx.TensorProto.FLOAT, [1, 1])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([double], "double", [value], [made], [two]),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
        ir_version=10,
    )
    found = run_graph(model, {"image": [np.float32([[1.0]]), np.float32([[3.0]])], "unused": [None, None]})
    assert [float(each[0, 0]) for each in found["features"]] == [2.0, 6.0]
