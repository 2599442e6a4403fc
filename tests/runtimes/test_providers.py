"""ONNX Runtime's execution providers: what they run, what they leave to the CPU, and what is refused."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import config, finished, images

from dynnas.errors import TargetError
from dynnas.latency.remote.replies import Replies
from dynnas.latency.resources import placements
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.metrics.resources import Placement as CpuNodes
from dynnas.runtimes.backends.onnxruntime import PortableOnnxRuntime
from dynnas.runtimes.backends.onnxruntime_providers import FROM_SOURCE, ProviderRuntime
from dynnas.runtimes.compile import resolve_runtime
from dynnas.runtimes.onnx.placement import CPU, Placement, Provider, placement_of, placement_report
from dynnas.runtimes.runtime import get_runtime
from dynnas.settings.registries import RUNTIMES
from dynnas.settings.settings import TargetSettings
from dynnas.testing.measurements import check_declaration
from dynnas.testing.runtimes import check_runtime, decided_images, networks

TENSORRT = "TensorrtExecutionProvider"


class Azure(ProviderRuntime):
    """The one provider beside the CPU's in every build: it runs no operator of a network."""

    name = "azure"
    provider = Provider("AzureExecutionProvider", "onnxruntime")


class Cpu(ProviderRuntime):
    """The CPU's provider as if it were another one: it takes every node."""

    name = "cpu_by_name"
    provider = Provider(CPU, "onnxruntime")


@pytest.fixture(scope="module")
def exported():
    """Networks of all kinds as portable graphs."""
    compiler = PortableOnnxRuntime()
    return {kind: (net, compiler.compile(net, TargetSettings())) for kind, net in networks()}


def test_a_provider_that_leaves_everything_to_the_cpu_is_refused(exported):
    runtime = Azure()
    assert runtime.can_run("cpu")
    for nodes, (_, artifact) in zip(("4", "20", r"\d+"), exported.values(), strict=True):
        with pytest.raises(TargetError, match=rf"all {nodes} nodes .* on the CPU: Azure takes none of them"):
            runtime.load(artifact)


def test_a_provider_that_takes_nodes_is_a_runtime_like_any_other(exported):
    runtime, placed = Cpu(), {}
    for kind, (network, artifact) in exported.items():
        runner = runtime.load(artifact)
        placed[kind] = runner.placement
        image = decided_images(network)[:1]
        with torch.no_grad():
            assert_allclose(runner(image.numpy()), network(image).numpy(), rtol=1e-4, atol=1e-4)
    assert placed["plain"].nodes == {CPU: {"Conv": 1, "Relu": 1, "ReduceMean": 1, "Gemm": 1}}
    assert placed["dynamic"].elsewhere == 0
    assert placed["dynamic"].nodes[CPU]["If"] == 1
    assert placed["dynamic"].nodes[CPU]["Conv"] == 10  # those in both branches


def test_what_runs_where_is_said():
    part = lambda ep, *ops: SimpleNamespace(  # noqa: E731
        ep_name=ep, get_nodes=lambda: [SimpleNamespace(op_type=op) for op in ops]
    )
    told = [
        part("XnnpackExecutionProvider", "Conv", "Conv", "Relu"),
        part(CPU, "Gemm"),
        part(CPU, "If", "Gemm"),
    ]
    session = SimpleNamespace(get_provider_graph_assignment_info=lambda: told)
    found = placement_of(session, "XnnpackExecutionProvider")
    assert str(found) == "Xnnpack runs 3 of 6 nodes; on the CPU: 2 Gemm, 1 If"
    assert (found.total, found.elsewhere) == (6, 3)
    assert str(placement_of(session, CPU)) == "CPU runs 3 of 6 nodes; on the CPU: 2 Conv, 1 Relu"
    with pytest.raises(TargetError, match=r"does not tell .*; use onnxruntime 1\.24 or newer"):
        placement_of(SimpleNamespace(), CPU)


@pytest.mark.parametrize("name", [name for name in RUNTIMES if hasattr(RUNTIMES[name], "provider")])
def test_a_provider_that_the_build_lacks_is_refused_with_where_it_comes_from(name):
    runtime = get_runtime(name)
    (device,) = runtime.dtypes
    if runtime.can_run(device):
        check_runtime(runtime, device)
        return
    with pytest.raises(
        TargetError, match=f"{name}: the installed onnxruntime has no .*; install .*onnxruntime"
    ):
        runtime.check(device, "float32")


def test_the_target_is_checked_before_anything_is_trained():
    if not get_runtime("onnxruntime_xnnpack").can_run("cpu"):
        with pytest.raises(
            TargetError, match=f"install {FROM_SOURCE} --use_xnnpack, or use runtime onnxruntime"
        ):
            resolve_runtime(TargetSettings(runtime="onnxruntime_xnnpack"))
    with pytest.raises(TargetError, match="onnxruntime_cuda serves the device cuda, not cpu"):
        resolve_runtime(TargetSettings(runtime="onnxruntime_cuda"))


class Told:
    """A session that says where its nodes run, and keeps what it was given."""

    placed: ClassVar[dict[str, list[str]]] = {}
    given: ClassVar[list[list[tuple[str, dict[str, str]]]]] = []

    def __init__(self, model, options, providers):
        self.given.append(providers)

    def get_provider_graph_assignment_info(self):
        nodes = {ep: [SimpleNamespace(op_type=op) for op in ops] for ep, ops in self.placed.items()}
        return [SimpleNamespace(ep_name=ep, get_nodes=partial(list, found)) for ep, found in nodes.items()]

    def get_modelmeta(self):
        return SimpleNamespace(custom_metadata_map={})


@pytest.fixture
def with_tensorrt(monkeypatch, tmp_path):
    """An ONNX Runtime that has TensorRT, as far as it says."""
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [TENSORRT, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Told)
    monkeypatch.setattr(Told, "given", [])
    monkeypatch.setattr(Told, "placed", {TENSORRT: ["Conv", "Gemm"]})
    monkeypatch.setattr("dynnas.runtimes.runtime.Runtime.check", lambda *_: None)  # there is no card


def on_cuda(seed=0):
    target = TargetSettings(device="cuda", runtime="onnxruntime_tensorrt")
    return PortableOnnxRuntime().compile(finished(config(), seed=seed), target)


def test_engines_are_kept_for_each_network_and_its_weights(with_tensorrt, tmp_path):
    runtime = get_runtime("onnxruntime_tensorrt")
    for artifact in (on_cuda(), on_cuda(), on_cuda(seed=1)):
        assert runtime.load(artifact).placement.elsewhere == 0
    options = [dict(providers)[TENSORRT] for providers in Told.given]
    assert [[name for name, _ in providers] for providers in Told.given] == [[TENSORRT, CPU]] * 3
    assert all(
        each["trt_engine_cache_enable"] == each["trt_timing_cache_enable"] == "True" for each in options
    )
    first, again, other = (Path(each["trt_engine_cache_path"]) for each in options)
    assert first == again != other  # the graph is the same; an engine would have the other's weights
    assert first.is_dir()
    assert first.parent == other.parent == tmp_path / "tensorrt"
    assert {each["trt_timing_cache_path"] for each in options} == {str(tmp_path / "tensorrt")}


def test_tensorrt_that_takes_no_node_is_refused(with_tensorrt, monkeypatch):
    """Where its libraries are missing, ONNX Runtime begins anew without it, and only prints so."""
    monkeypatch.setattr(Told, "placed", {"CUDAExecutionProvider": ["Conv"], CPU: ["If", "Gemm"]})
    with pytest.raises(
        TargetError,
        match=r"all 3 nodes .* on the CPU: Tensorrt takes none of them here.* libraries are there",
    ):
        get_runtime("onnxruntime_tensorrt").load(on_cuda())


def test_engines_of_tensorrt_are_built_once_and_right(monkeypatch, tmp_path):
    runtime = get_runtime("onnxruntime_tensorrt")
    if not runtime.can_run("cuda"):
        pytest.skip("no card here, or this build of onnxruntime has no TensorRT")
    monkeypatch.setenv("DYNNAS_CACHE", str(tmp_path))
    image = images(1)
    for seed in (0, 1, 0):
        network = finished(config(), seed=seed)
        with torch.no_grad():
            expected = network(image).numpy()
        assert_allclose(runtime.load(on_cuda(seed))(image.numpy()), expected, rtol=1e-2, atol=1e-2)
    folders = [each for each in (tmp_path / "tensorrt").iterdir() if each.is_dir()]
    assert [len([*each.glob("*.engine")]) for each in folders] == [1, 1]


def test_the_nodes_on_the_cpu_are_a_metric():
    network, image = finished(config()), images().numpy()
    runtime = Cpu()
    runner = runtime.load(runtime.compile(network, TargetSettings(runtime=runtime.name)))
    target = TargetSettings(runtime="onnxruntime_xnnpack")
    candidate = SimpleNamespace(workload=Workload(runner, [image]), target=target)
    check_declaration(CpuNodes(), candidate)
    assert CpuNodes().measure(candidate) == {"cpu_nodes": 0.0}
    runner.placement = Placement("X", {"X": {"Conv": 4}, CPU: {"If": 1, "Gemm": 2}})
    assert CpuNodes().measure(candidate) == {"cpu_nodes": 3.0}
    CpuNodes().check(target)
    with pytest.raises(TargetError, match="runtime onnxruntime has no execution providers"):
        CpuNodes().check(TargetSettings(runtime="onnxruntime"))
    plain = Workload(build_runner(network, TargetSettings()), [image])
    assert placements([plain], TargetSettings()) == [None]
    with pytest.raises(TargetError, match="cpu_nodes cannot be counted: runtime auto has no execution"):
        CpuNodes().measure(SimpleNamespace(workload=plain, target=TargetSettings()))


def test_a_device_says_what_runs_where():
    replies = Replies("tcp://there:1")
    placed = Placement("X", {"X": {"Conv": 4}, CPU: {"If": 1}})
    told = {"placements": [placement_report(SimpleNamespace(placement=placed)), placement_report(object())]}
    assert replies.placements(told, 2) == [placed, None]
    for nonsense in (
        {},
        {"placements": []},
        {"placements": [{"provider": "X"}]},
        {"placements": [{"provider": "X", "nodes": {"X": {"Conv": float("inf")}}}]},
        {"placements": [{"provider": "X", "nodes": {"X": {"Conv": -1}}}]},
        {"placements": ["X"]},
    ):
        with pytest.raises(TargetError, match="was asked for"):
            replies.placements(nonsense, 1)
