"""Networks that run each image at a resolution of its own, in the runtimes and as they ship."""

from types import SimpleNamespace

import pytest
import torch
from numpy.testing import assert_allclose
from support import networks
from support.contexts import decisions
from support.networks import images, noise, one_by_one
from support.sized import SIZES, sized_config, undecided
from test_graphs import convolutions_run, runner_of

from dynnas.compression.int8 import INT8
from dynnas.compression.prune import channel_groups
from dynnas.errors import TrainingError
from dynnas.export.bundle import export_model
from dynnas.export.formats import FORMATS
from dynnas.export.formats.checkpoint import load_checkpoint
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.dependent import measure_dependent
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.runner import build_runner
from dynnas.nn.layers.digest import weights_digest
from dynnas.runtimes.batches import build_batch_runner
from dynnas.runtimes.cascade import chain
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.settings.settings import TargetSettings

SPACE = parse_space(
    "input: {resolutions: 12, channels: 2, classes: 5}\nstem: {width: 8}\nstages: [{width: 8}]"
)


@pytest.fixture(scope="module")
def network():
    return undecided(sized_config(attention="se"))


@torch.no_grad()
def decided(network, x):
    """What the network says, and the index of each image's size."""
    with decisions(network) as found:
        logits = network(x).numpy()
    return logits, found[0].choice.to(torch.uint8).argmax(1)


@pytest.mark.parametrize("export", [to_onnx, to_packed_onnx])
@pytest.mark.parametrize("op", ["static", "dynet"])
def test_the_graph_for_one_image_answers_as_the_masked_network(export, op):
    network, batch = undecided(sized_config(op=op)), images(24)
    logits, _ = decided(network, batch)
    assert_allclose(one_by_one(runner_of(export(network)), batch), logits, rtol=1e-4, atol=1e-4)


def test_the_graph_runs_one_resolution(network, tmp_path):
    """Every branch has as many convolutions as a plain network: two more look at the image."""
    batch = images(24)
    _, sizes = decided(network, batch)
    model = to_onnx(network)
    assert [node.op_type for node in model.graph.node].count("If") == 1
    plain = convolutions_run(
        to_onnx(networks.finished(networks.config(attention="se"))), batch[:1].numpy(), tmp_path
    )
    for size in range(len(SIZES)):
        image = batch[sizes == size][:1].numpy()
        assert convolutions_run(model, image, tmp_path) == plain + 2


def test_the_graph_for_batches_is_masked(network):
    batch = images(24)
    logits, _ = decided(network, batch)
    outputs = runner_of(to_onnx_batch(network)).outputs(batch.numpy())
    assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime_portable", "torch"])
def test_every_runtime_answers_as_the_masked_network(network, runtime):
    batch = images(24)
    logits, _ = decided(network, batch)
    target = TargetSettings(runtime=runtime)
    assert_allclose(one_by_one(build_runner(network, target), batch), logits, rtol=1e-4, atol=1e-4)
    for execution in ("masked", "compacted"):
        found, exits = build_batch_runner(network, target, execution)(batch.numpy())
        assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
        assert exits.tolist() == [0] * 24


def test_its_latency_is_a_distribution(network):
    target = TargetSettings(runtime="torch", seconds=0.05)
    meter = LatencyMeter(target, build_anchors(SPACE, target, 2, 5))
    found = measure_dependent(network, images(40), meter, target, timed=8, batch=16)
    assert len(found.image_ms) == 8
    assert [batch.execution for batch in found.batches] == ["masked", "compacted"]


def test_it_can_be_a_member_of_a_cascade(network):
    batch = images(24)
    cascade = chain([networks.finished(networks.config()), network], (0.5,), ("a", "b"), 12).eval()
    with torch.no_grad():
        logits = cascade(batch).numpy()
    assert_allclose(one_by_one(runner_of(to_onnx(cascade)), batch), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("format", [format for format in FORMATS if format != "executorch"])
def test_every_artifact_agrees_with_torch(network, format, tmp_path):
    if format == "openvino":
        pytest.importorskip("openvino", reason="openvino is not installed")
    manifest = export_model(network, noise(), tmp_path / "model", format, images=40)
    for artifact in manifest["artifacts"]:
        assert artifact["agreement"] == 1
        assert artifact["images"] > 20
    chosen = {"block": "resolution", "gate": "6, 8 or 12", "target": 0.5, "branches": True}
    assert manifest["gates"] == [chosen]
    assert manifest["input"]["shape"] == ["batch", 2, 12, 12]
    card = (tmp_path / "model" / "README.md").read_text()
    says = "left out in the file for one image" if format in ("onnx", "openvino") else "no branches for them"
    assert "resolution 6, 8 or 12 (0.5); " in card
    assert says in card
    if format == "checkpoint":
        assert weights_digest(load_checkpoint(tmp_path / "model")) == weights_digest(network)


def test_passes_that_cannot_serve_it_say_so(network):
    with pytest.raises(TrainingError, match=r"sees images at several resolutions \(6, 8 or 12\)"):
        channel_groups(network.config)
    with pytest.raises(TrainingError, match=r"see images at several resolutions \(6, 8 or 12\)"):
        INT8.run(SimpleNamespace(network=network))
