"""ONNX graphs of networks, held against the networks themselves."""

from pathlib import Path

import numpy as np
import onnxruntime
import torch
from numpy.testing import assert_allclose

from dynnas.nn.exits.exits import leave
from dynnas.runtimes.onnx.session import OnnxRunner


@torch.no_grad()
def answer(network, batch):
    """Logits and exits by the masked rule."""
    logits, exits = leave(network.logits(batch), network.config.exits)
    return logits.numpy(), exits.numpy()


def session_of(model: bytes | str | Path) -> onnxruntime.InferenceSession:
    """A session of ONNX Runtime as it is, in one thread: more would spin beside other tests."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def runner_of(model):
    return OnnxRunner(model.SerializeToString(), threads=1)


def assert_answers(model, network, batch):
    """The graph for one image says of every image what the masked network says, and where it leaves."""
    runner = runner_of(model)
    outputs = [runner.outputs(image[None].numpy()) for image in batch]
    _assert_same(
        {name: np.concatenate([each[name] for each in outputs]) for name in outputs[0]}, network, batch
    )


def assert_answers_batch(model, network, batch):
    """The graph for batches says of all images at once what the masked network says."""
    _assert_same(runner_of(model).outputs(batch.numpy()), network, batch)


def _assert_same(found, network, batch):
    logits, exits = answer(network, batch)
    assert_allclose(found["logits"], logits, rtol=1e-4, atol=1e-4)
    if network.config.exits:
        assert found["exit"].tolist() == exits.tolist()
