"""Every runtime says of every network what torch says."""

import re

import numpy as np
import pytest
import torch
from networks import config, finished, images, one_by_one
from numpy.testing import assert_allclose

from dynnas import errors
from dynnas.errors import MissingExtraError, TargetError
from dynnas.ops import ACTIVATIONS, ATTENTIONS, BLOCKS, KERNELS
from dynnas.runtime import build_runner, resolve_runtime
from dynnas.space.settings import TargetSettings

ONNX = TargetSettings(runtime="onnxruntime")
PORTABLE = TargetSettings(runtime="onnxruntime_portable")
EAGER = TargetSettings(runtime="torch")
CUDA = TargetSettings(device="cuda")
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")


@torch.no_grad()
def agree(network, target):
    batch = images(9)
    answers = one_by_one(build_runner(network, target), batch)
    assert_allclose(answers, network(batch).numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("op", KERNELS)
@pytest.mark.parametrize("kind", BLOCKS)
def test_onnxruntime_runs_every_op_in_every_block(kind, op):
    agree(
        finished(config(kind, op, width=3)), ONNX
    )  # wide enough for blocks of channels, and to fill them up


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_onnxruntime_runs_every_activation(activation):
    agree(finished(config(activation=activation)), ONNX)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_onnxruntime_runs_every_attention(attention):
    agree(finished(config(attention=attention)), ONNX)


@pytest.mark.parametrize("op", KERNELS)
def test_the_portable_graph_runs_every_op(op):
    agree(finished(config(op=op)), PORTABLE)


@pytest.mark.parametrize("target", [ONNX, PORTABLE, EAGER], ids=["onnxruntime", "portable", "torch"])
@pytest.mark.parametrize("exits", [1, 2])
def test_each_image_leaves_where_it_should(exits, target):
    agree(finished(config(op="dynet", exits=exits)), target)


@pytest.mark.parametrize("op", KERNELS)
def test_eager_runs_every_op(op):
    agree(finished(config(op=op, attention="se")), EAGER)


@needs_cuda
@pytest.mark.parametrize("exits", [0, 2])
@pytest.mark.parametrize("op", KERNELS)
def test_cuda_runs_every_op(op, exits):
    agree(finished(config(op=op, exits=exits)), CUDA)


def test_eager_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    runner = build_runner(finished(config()), TargetSettings(runtime="torch", threads=before + 1))
    runner(images().numpy())
    assert torch.get_num_threads() == before


def test_building_a_runner_leaves_the_network_as_it_was():
    network = finished(config(op="condconv", exits=1)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    build_runner(network, ONNX)
    build_runner(network, EAGER)
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_results_of_one_call_outlive_the_next():
    runner = build_runner(finished(config()), EAGER)
    first = runner(images(seed=1).numpy())
    kept = first.copy()
    runner(images(seed=2).numpy())
    assert np.array_equal(first, kept)


@pytest.mark.parametrize(
    ("target", "runtime"), [(TargetSettings(), "onnxruntime"), (ONNX, "onnxruntime"), (EAGER, "torch")]
)
def test_runtimes_of_a_cpu(target, runtime):
    assert resolve_runtime(target) == runtime


def test_onnxruntime_is_refused_on_cuda():
    with pytest.raises(TargetError, match="onnxruntime serves the device cpu, not cuda"):
        resolve_runtime(TargetSettings(device="cuda", runtime="onnxruntime"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(TargetError, match="sees no CUDA device"):
        build_runner(finished(config()), CUDA)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_extra(monkeypatch, missing):
    real = errors.importlib.import_module

    def import_module(name):
        if name == missing:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name)

    network = finished(config())
    monkeypatch.setattr(errors.importlib, "import_module", import_module)
    with pytest.raises(
        MissingExtraError, match=re.escape(f"{missing} is not installed") + r".*dynnas\[onnx\]"
    ):
        build_runner(network, ONNX)
