"""The contract of every runtime: torch's answers, in every type and batch that it says it serves."""

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.networks import config, finished, images
from torch import nn

from dynnas.errors import TargetError
from dynnas.latency.runner import build_runner
from dynnas.runtimes.compile import resolve_runtime
from dynnas.runtimes.runtime import get_runtime
from dynnas.runtimes.torch.compiled import _apart
from dynnas.settings.registries import RUNTIMES
from dynnas.settings.settings import TargetSettings

TESTS = Path(__file__).parents[1]
ENV = os.environ | {"PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent))), "OMP_NUM_THREADS": "1"}
TOLERANCES = {"float32": 1e-4, "bfloat16": 5e-2, "float16": 1e-2}


def mark(runtime):
    """Runtimes that are not installed are skipped; torch.compile takes minutes, NCNN seconds."""
    missing = not get_runtime(runtime).can_run("cpu")
    return [
        pytest.mark.skipif(missing, reason=f"{runtime} is not installed"),
        *([pytest.mark.slow, pytest.mark.timeout(1800)] if runtime in ("ncnn", "torch_compile") else []),
    ]


ON_CPU = {name: runtime for name, runtime in RUNTIMES.items() if "cpu" in runtime.dtypes}
EVERY = [pytest.param(name, marks=mark(name)) for name in ON_CPU]
SERVED = [
    pytest.param(name, dtype, marks=mark(name), id=f"{name}-{dtype}")
    for name, runtime in ON_CPU.items()
    for dtype in runtime.dtypes["cpu"]
]


@torch.no_grad()
def decided(network, count):
    """`network` with thresholds at the median confidence, and those `count` images that are farthest from it
    on either side, so that no rounding leads them elsewhere."""
    batch, places = images(64 * count), []
    distance = torch.full((len(batch),), torch.inf)
    for place, logits in zip(network.config.exits, network.logits(batch), strict=False):
        confidences = logits.softmax(1).amax(1)
        places.append(replace(place, threshold=confidences.median().item()))
        distance = distance.minimum((confidences - confidences.median()).abs())
    network.config = replace(network.config, exits=tuple(places))
    return batch[distance.argsort(descending=True)[:count]]


def skip_unless_openvino_does(dtype):
    able = importlib.import_module("openvino").Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if {"float32": "FP32", "bfloat16": "BF16", "float16": "FP16"}[dtype] not in able:
        pytest.skip(f"OpenVINO has no {dtype} on this processor")


@torch.no_grad()
def check(network, target, calls=6):
    batch = decided(network, calls * target.batch)
    if target.runtime == "openvino":
        skip_unless_openvino_does(target.dtype)
    runner = build_runner(network, target)
    answers = [runner(part) for part in np.split(batch.numpy(), calls)]
    assert {answer.dtype for answer in answers} == {np.dtype("float32")}
    tolerance = TOLERANCES[target.dtype]
    assert_allclose(np.concatenate(answers), network(batch).numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("batch", "exits"), combinations([1, 3], [0, 2], every=2))
@pytest.mark.parametrize(("runtime", "dtype"), SERVED)
def test_it_says_what_torch_says(runtime, dtype, batch, exits):
    """One image leaves at its exit; a batch is answered as if each image had."""
    network = finished(config(op="condconv", exits=exits, attention="se"))
    check(network, TargetSettings(runtime=runtime, dtype=dtype, batch=batch))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("op", ["static", "dynet", "deformable"])
@pytest.mark.parametrize("runtime", EVERY)
def test_it_branches_in_networks_of_all_sorts(runtime, op):
    if (runtime, op) == ("ncnn", "deformable"):
        pytest.skip("NCNN has no such operator, and says so")
    check(finished(config(op=op, exits=1)), TargetSettings(runtime=runtime), calls=12)


@pytest.mark.parametrize("runtime", EVERY)
def test_results_of_one_call_outlive_the_next(runtime):
    runner = build_runner(finished(config()), TargetSettings(runtime=runtime))
    first = runner(images(seed=1).numpy())
    kept = first.copy()
    runner(images(seed=2).numpy())
    assert np.array_equal(first, kept)


@pytest.mark.parametrize("runtime", EVERY)
def test_building_leaves_the_network_as_it_was(runtime):
    network = finished(config(op="condconv", exits=1)).train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    build_runner(network, TargetSettings(runtime=runtime))
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


THREADS = """
import os, sys, torch
from support.networks import config, finished, images
from dynnas.latency.runner import build_runner
from dynnas.settings.settings import TargetSettings
torch.set_num_threads(1)
network, image, started = finished(config(width=4)), images().numpy(), []
for threads in (1, 2):
    runner = build_runner(network, TargetSettings(runtime=sys.argv[1], threads=threads))
    runner(image)
    # What OpenVINO starts depends on the machine, so it is asked.
    started.append(getattr(runner, "threads", len(os.listdir("/proc/self/task"))))
print(started[1] - started[0], torch.get_num_threads())
"""


@pytest.mark.sampled(2)
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="the system does not list threads")
@pytest.mark.parametrize("runtime", EVERY)
def test_threads_are_honoured(runtime):
    """By what a process then has, and torch's own number is left as it was."""
    command = [sys.executable, "-c", THREADS, runtime]
    ran = subprocess.run(command, env=ENV, capture_output=True, text=True, check=True)
    started, left = map(int, ran.stdout.split())
    assert started == 1
    assert left == 1


def test_more_functions_compile_than_torch_keeps_for_one_code():
    """Beyond eight with the same code it would give up, or run them uncompiled."""
    compiled = []

    def count(module, inputs):
        compiled.append(module)
        return module

    def make(factor):
        def run(x):
            return x, x * factor

        return run

    x = torch.ones(2)
    for factor in range(12):
        run = torch.compile(
            _apart(make(nn.Parameter(torch.tensor(float(factor))))), backend=count, fullgraph=True
        )
        assert torch.equal(run(x)[1], factor * x)
    assert len(compiled) == 12


def test_a_network_that_cannot_be_compiled_is_a_clear_error(monkeypatch):
    def fail(run, **how):
        def run(x):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found")

        return run

    monkeypatch.setattr(torch, "compile", fail)
    with pytest.raises(TargetError, match=r"No working C\+\+ compiler found.*use runtime torch"):
        build_runner(finished(config()), TargetSettings(runtime="torch_compile"))


def test_openvino_refuses_a_type_that_the_processor_lacks(monkeypatch):
    openvino = pytest.importorskip("openvino")
    real = openvino.Core.get_property

    def get_property(core, device, name):
        return ["FP32", "INT8"] if name == "OPTIMIZATION_CAPABILITIES" else real(core, device, name)

    monkeypatch.setattr(openvino.Core, "get_property", get_property)
    with pytest.raises(TargetError, match="OpenVINO has no bfloat16 on this processor; use dtype float32,"):
        build_runner(finished(config()), TargetSettings(runtime="openvino", dtype="bfloat16"))


@pytest.mark.parametrize(
    ("target", "runtime"),
    [
        (TargetSettings(), "onnxruntime"),
        (TargetSettings(runtime="onnxruntime"), "onnxruntime"),
        (TargetSettings(runtime="torch", dtype="bfloat16"), "torch"),
    ],
)
def test_runtimes_of_a_cpu(target, runtime):
    assert resolve_runtime(target) == runtime


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_runtimes_of_a_cpu_are_refused_on_cuda(runtime):
    with pytest.raises(TargetError, match=f"{runtime} serves the device cpu, not cuda"):
        resolve_runtime(TargetSettings(device="cuda", runtime=runtime))


def test_a_type_that_a_runtime_does_not_serve_is_refused():
    with pytest.raises(TargetError, match="onnxruntime on cpu computes in float32, not in bfloat16"):
        resolve_runtime(TargetSettings(dtype="bfloat16"))
    with pytest.raises(TargetError, match="torch on cpu computes in float32 or bfloat16, not in float16"):
        resolve_runtime(TargetSettings(runtime="torch", dtype="float16"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_is_refused_where_there_is_none():
    with pytest.raises(TargetError, match="sees no CUDA device"):
        build_runner(finished(config()), TargetSettings(device="cuda"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize("exits", [0, 2])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("dtype", RUNTIMES["torch"].dtypes["cuda"])
@pytest.mark.parametrize("runtime", ["torch", pytest.param("torch_compile", marks=pytest.mark.slow)])
def test_cuda_says_what_torch_says(runtime, dtype, batch, exits):
    network = finished(config(op="condconv", exits=exits, attention="se"))
    check(network, TargetSettings("cuda", runtime, dtype=dtype, batch=batch))
