"""Every runtime says of every network what torch says."""

import re

import pytest
import torch
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.networks import config, finished, images, one_by_one

from dynnas import errors
from dynnas.errors import MissingExtraError
from dynnas.latency.runner import build_runner
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import ACTIVATIONS, ATTENTIONS, BLOCKS
from dynnas.settings.settings import TargetSettings

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


@pytest.mark.sampled(8)
@pytest.mark.parametrize(("kind", "op"), combinations(BLOCKS, KERNELS, every=12))
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


@pytest.mark.sampled(6)
@pytest.mark.parametrize("op", KERNELS)
def test_the_portable_graph_runs_every_op(op):
    agree(finished(config(op=op)), PORTABLE)


@pytest.mark.sampled(8)
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
