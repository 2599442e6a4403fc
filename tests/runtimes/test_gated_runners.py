"""Runners of gated networks: one image runs what it wants, and so does each of a batch."""

import pytest
from numpy.testing import assert_allclose
from support.combinations import combinations
from support.gated import gated_config, undecided
from support.graphs import answer
from support.networks import images, noise, one_by_one

from dynnas.export.bundle import export_model
from dynnas.export.formats import FORMATS
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.dependent import measure_dependent
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.runner import build_runner
from dynnas.runtimes.batches import build_batch_runner
from dynnas.settings.settings import TargetSettings

GATES = (("skip", "width"), ("skip", "channels"), ("positions", "moe"))


@pytest.mark.sampled(5)
@pytest.mark.parametrize(
    ("runtime", "gates", "exits"),
    combinations(
        ["torch", "onnxruntime", "onnxruntime_portable", "openvino", "litert"], GATES, [0, 2], every=2
    ),
)
def test_one_image_is_answered_as_by_the_masked_network(runtime, gates, exits):
    if runtime in ("openvino", "litert"):
        module = {"litert": "ai_edge_litert"}.get(runtime, runtime)
        pytest.importorskip(module, reason=f"{module} is not installed")
    network, batch = undecided(gated_config(gates, exits=exits)), images(16)
    runner = build_runner(network, TargetSettings(runtime=runtime))
    assert_allclose(one_by_one(runner, batch), answer(network, batch)[0], rtol=1e-3, atol=1e-3)


@pytest.mark.sampled(5)
@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
@pytest.mark.parametrize("execution", ["masked", "compacted"])
@pytest.mark.parametrize("gates", GATES, ids="-".join)
def test_a_batch_is_answered_as_by_the_masked_network(runtime, execution, gates):
    network, batch = undecided(gated_config(gates, exits=1)), images(24)
    logits, exits = answer(network, batch)
    found, taken = build_batch_runner(network, TargetSettings(runtime=runtime), execution)(batch.numpy())
    assert taken.tolist() == exits.tolist()
    assert_allclose(found, logits, rtol=1e-3, atol=1e-3)


def test_a_runner_in_torch_leaves_a_skipped_block_out(monkeypatch):
    network, batch = undecided(gated_config(("skip", "width"))), images(24)
    block = type(network.slots["stage1__1"].block)
    ran = []
    forward = block.forward
    monkeypatch.setattr(block, "forward", lambda self, *args: ran.append(self) or forward(self, *args))
    runner = build_runner(network, TargetSettings(runtime="torch"))
    counts = set()
    for image in batch:
        ran.clear()
        runner(image[None].numpy())
        counts.add(len(ran))
    assert counts == {2, 3}


SPACE = parse_space("input: {resolutions: 12}\nstem: {width: 8}\nstages: [{width: 8, depth: 2, gate: skip}]")


def test_the_time_of_a_gated_network_is_that_of_many_images():
    target = TargetSettings(runtime="torch", seconds=0.05)
    anchors = build_anchors(SPACE, target, 2, 5)
    network = undecided(gated_config(("skip", "width")))
    found = measure_dependent(network, images(40), LatencyMeter(target, anchors), target, timed=8, batch=16)
    assert len(found.image_ms) == 8
    assert not found.is_one_value
    assert [batch.execution for batch in found.batches] == ["masked", "compacted"]
    assert found.expected_ms == pytest.approx(found.latency.mean_ms, rel=0.5)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "format",
    [
        pytest.param(format, marks=pytest.mark.slow) if format == "pt2" else format
        for format in FORMATS
        if format not in ("executorch", "ncnn")
    ],
)
def test_every_artifact_of_a_gated_network_agrees_with_torch(format, tmp_path):
    if format in ("openvino", "coreml", "litert"):
        module = {"coreml": "coremltools", "litert": "ai_edge_litert"}.get(format, format)
        pytest.importorskip(module, reason=f"{module} is not installed")
    network = undecided(gated_config(("skip", "channels"), exits=1))
    manifest = export_model(network, noise(), tmp_path / "model", format, images=40)
    for artifact in manifest["artifacts"]:
        assert artifact["agreement"] == artifact["exit_agreement"] == 1
        assert artifact["images"] > 20
    assert manifest["gates"] == [
        {"block": "stage1.1", "gate": "skip", "target": 0.5, "branches": True},
        {"block": "stage2.0", "gate": "channels", "target": 0.5, "branches": False},
    ]
    card = (tmp_path / "model" / "README.md").read_text()
    says = (
        "left out in the file for one image, but everything is computed, and masked, for channels"
        if format in ("onnx", "openvino", "litert")
        else "no branches for them"
    )
    assert "stage1.1 skip (0.5), stage2.0 channels (0.5); " in card
    assert says in card
