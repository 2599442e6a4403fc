"""Graphs in int8: near to float, smaller, branching as before, and quantised where they should be."""

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from support.graphs import session_of
from support.networks import config, finished, images, one_after_another

from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.int8 import to_int8_onnx


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
