"""Networks that see an image at a glance first, in the runtimes and as they ship."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support import networks
from support.glancing import glance_config, glancing
from support.networks import images, noise, one_by_one
from test_graphs import answer, convolutions_run, runner_of

from dynnas.compression.int8 import INT8
from dynnas.compression.prune import channel_groups
from dynnas.errors import TrainingError
from dynnas.export.bundle import export_model
from dynnas.export.formats import FORMATS
from dynnas.language.parser import parse_space
from dynnas.latency.anchors import build_anchors
from dynnas.latency.dependent import measure_dependent
from dynnas.latency.meter import LatencyMeter
from dynnas.latency.runner import build_runner
from dynnas.runtimes.batches import build_batch_runner
from dynnas.runtimes.cascade import chain
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.settings.settings import TargetSettings

SPACE = parse_space(
    "input: {resolutions: 12, channels: 2, classes: 5}\nstem: {width: 8}\nstages: [{width: 8}]"
)


@pytest.fixture(scope="module")
def network():
    return glancing(glance_config(attention="se"))


@pytest.mark.parametrize("export", [to_onnx, to_packed_onnx])
@pytest.mark.parametrize("op", ["static", "dynet"])
def test_the_graph_for_one_image_looks_where_the_network_does(export, op):
    network, batch = glancing(glance_config(op=op)), images(24)
    logits, taken = answer(network, batch)
    assert set(taken) == {0, 1}
    runner = runner_of(export(network))
    outputs = [runner.outputs(image[None].numpy()) for image in batch]
    assert [int(output["exit"][0]) for output in outputs] == taken.tolist()
    assert_allclose(np.concatenate([output["logits"] for output in outputs]), logits, rtol=1e-4, atol=1e-4)


def test_an_image_that_leaves_is_not_looked_at_again(network, tmp_path):
    batch = images(24)
    _, taken = answer(network, batch)
    model = to_onnx(network)
    assert "If" in [node.op_type for node in model.graph.node]
    ran = {way: convolutions_run(model, batch[taken == way][:1].numpy(), tmp_path) for way in (0, 1)}
    plain = networks.finished(networks.config(attention="se"))
    once = convolutions_run(to_onnx(plain), batch[:1].numpy(), tmp_path)
    # The second look has a classifier of its own.
    assert ran == {0: once, 1: 2 * once}


def test_the_graph_for_batches_computes_both(network):
    batch = images(24)
    logits, taken = answer(network, batch)
    outputs = runner_of(to_onnx_batch(network)).outputs(batch.numpy())
    assert_allclose(outputs["logits"], logits, rtol=1e-4, atol=1e-4)
    assert outputs["exit"].tolist() == taken.tolist()


@pytest.mark.parametrize("runtime", ["onnxruntime", "onnxruntime_portable", "torch"])
def test_every_runtime_answers_as_the_masked_network(network, runtime):
    batch = images(24)
    logits, taken = answer(network, batch)
    target = TargetSettings(runtime=runtime)
    assert_allclose(one_by_one(build_runner(network, target), batch), logits, rtol=1e-4, atol=1e-4)
    for execution in ("masked", "compacted"):
        found, exits = build_batch_runner(network, target, execution)(batch.numpy())
        assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
        assert exits.tolist() == taken.tolist()


def test_its_latency_has_two_ways(network):
    target = TargetSettings(runtime="torch", seconds=0.05)
    meter = LatencyMeter(target, build_anchors(SPACE, target, 2, 5))
    found = measure_dependent(network, images(40), meter, target, timed=8, batch=16)
    assert [way.name for way in found.ways] == ["glance", "head"]
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
        assert artifact["agreement"] == artifact["exit_agreement"] == 1
        assert artifact["images"] > 20
    assert manifest["exits"][0]["name"] == "glance"
    assert manifest["ways"] == ["glance", "head"]
    assert manifest["looks"] == [{"size": 6, "of": 12}]
    card = (tmp_path / "model" / "README.md").read_text()
    assert "- glance: the whole image at 6 pixels square, then 6 of its 12 where it says" in card


def test_passes_that_cannot_serve_it_say_so(network):
    with pytest.raises(TrainingError, match=r"sees images at several resolutions \(6 of 12\)"):
        channel_groups(network.config)
    with pytest.raises(TrainingError, match=r"see images at several resolutions \(6 of 12\)"):
        INT8.run(SimpleNamespace(network=network))
