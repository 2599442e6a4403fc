"""Peak memory: of a process of its own, more for a network with more weights."""

import sys

import numpy as np
import pytest
from support.networks import config, finished, images

from dynnas.errors import TargetError
from dynnas.latency.remote.memory import peak_memory_mib
from dynnas.runtimes.artifact import TORCH_NETWORK, Artifact
from dynnas.runtimes.compile import compile_network
from dynnas.settings.settings import TargetSettings

TARGET = TargetSettings(runtime="onnxruntime_portable")
linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak memory")


@pytest.mark.slow
@linux
def test_weights_are_in_it():
    image = images().numpy()
    small = peak_memory_mib(compile_network(finished(config()), TARGET), image)
    network = finished(config("basic", width=32))
    weights = sum(parameter.nbytes for parameter in network.parameters()) / 2**20
    large = peak_memory_mib(compile_network(network, TARGET), image)
    assert 0 < small < 40
    assert weights > 10
    assert small + 0.8 * weights < large < small + 6 * weights


@linux
def test_what_cannot_be_run_is_a_clear_error():
    with pytest.raises(TargetError, match=r"peak memory: .*protobuf parsing failed"):
        peak_memory_mib(made({"model.onnx": b"no model"}, "onnxruntime_portable"), np.zeros(1, np.float32))
    with pytest.raises(TargetError, match="peak memory: a document of 0 bytes"):
        peak_memory_mib(made({"model.onnx": b""}, "torch"), np.zeros(1, np.float32))
    with pytest.raises(TargetError, match=r"unknown runtime .tochr. .did you mean .torch."):
        peak_memory_mib(made({"model.onnx": b""}, "tochr"), np.zeros(1, np.float32))


def made(files, runtime):
    return Artifact(files, "model.onnx", TORCH_NETWORK, runtime)
