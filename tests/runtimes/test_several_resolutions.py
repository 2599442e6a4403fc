"""Networks that see images at several resolutions, in the runtimes and as they ship."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support import networks
from support.combinations import combinations
from support.contexts import decisions
from support.glancing import glance_config, glancing
from support.graphs import answer, assert_answers, assert_answers_batch, runner_of
from support.networks import images, noise, one_by_one
from support.profiled import convolutions_run
from support.sized import SIZES, sized_config, undecided

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
from dynnas.runtimes.chaining import chain
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx
from dynnas.settings.settings import TargetSettings

SPACE = parse_space(
    "input: {resolutions: 12, channels: 2, classes: 5}\nstem: {width: 8}\nstages: [{width: 8}]"
)


@dataclass(frozen=True)
class Kind:
    """How resolutions differ: a network, its ways out, and what the manifest, card and errors say."""

    make: Callable[..., torch.nn.Module]
    ways: tuple[str, ...]
    manifest: dict[str, object]
    card: str
    resolutions: str


KINDS = {
    "chosen": Kind(
        lambda **kinds: undecided(sized_config(**kinds)),
        ("head",),
        {
            "gates": [{"block": "resolution", "gate": "6, 8 or 12", "target": 0.5, "branches": True}],
            "exits": [],
        },
        "resolution 6, 8 or 12 (0.5); ",
        r"\(6, 8 or 12\)",
    ),
    "glance": Kind(
        lambda **kinds: glancing(glance_config(**kinds)),
        ("glance", "head"),
        {"ways": ["glance", "head"], "looks": [{"size": 6, "of": 12}]},
        "- glance: the whole image at 6 pixels square, then 6 of its 12 where it says",
        r"\(6 of 12\)",
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def network(kind):
    return kind.make(attention="se")


@torch.no_grad()
def sizes_chosen(network, x):
    """The index of each image's resolution."""
    with decisions(network) as found:
        network(x)
    return found[0].choice.to(torch.uint8).argmax(1)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "op", "export"),
    combinations(KINDS, ["static", "dynet"], [to_onnx, to_packed_onnx], every=2),
    indirect=["kind"],
)
def test_the_graph_for_one_image_answers_as_the_network(kind, export, op):
    network, batch = kind.make(op=op), images(24)
    assert {*answer(network, batch)[1].tolist()} == {*range(len(kind.ways))}
    assert_answers(export(network), network, batch)


def test_the_graph_runs_one_resolution(tmp_path):
    """Every branch has as many convolutions as a plain network: two more look at the image."""
    network, batch = KINDS["chosen"].make(attention="se"), images(24)
    sizes = sizes_chosen(network, batch)
    model = to_onnx(network)
    assert [node.op_type for node in model.graph.node].count("If") == 1
    once = plain_convolutions(batch, tmp_path)
    for size in range(len(SIZES)):
        assert convolutions_run(model, batch[sizes == size][:1].numpy(), tmp_path) == once + 2


def test_an_image_that_leaves_is_not_looked_at_again(tmp_path):
    network, batch = KINDS["glance"].make(attention="se"), images(24)
    _, taken = answer(network, batch)
    model = to_onnx(network)
    assert "If" in [node.op_type for node in model.graph.node]
    ran = {way: convolutions_run(model, batch[taken == way][:1].numpy(), tmp_path) for way in (0, 1)}
    once = plain_convolutions(batch, tmp_path)
    # The second look has a classifier of its own.
    assert ran == {0: once, 1: 2 * once}


def plain_convolutions(batch, folder):
    plain = networks.finished(networks.config(attention="se"))
    return convolutions_run(to_onnx(plain), batch[:1].numpy(), folder)


def test_the_graph_for_batches_computes_all(network):
    assert_answers_batch(to_onnx_batch(network), network, images(24))


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "runtime"),
    combinations(KINDS, ["onnxruntime", "onnxruntime_portable", "torch"], every=2),
    indirect=["kind"],
)
def test_every_runtime_answers_as_the_masked_network(network, runtime):
    batch = images(24)
    logits, taken = answer(network, batch)
    target = TargetSettings(runtime=runtime)
    assert_allclose(one_by_one(build_runner(network, target), batch), logits, rtol=1e-4, atol=1e-4)
    for execution in ("masked", "compacted"):
        found, exits = build_batch_runner(network, target, execution)(batch.numpy())
        assert_allclose(found, logits, rtol=1e-4, atol=1e-4)
        assert exits.tolist() == taken.tolist()


def test_its_latency_is_a_distribution(kind, network):
    target = TargetSettings(runtime="torch", seconds=0.05)
    meter = LatencyMeter(target, build_anchors(SPACE, target, 2, 5))
    found = measure_dependent(network, images(40), meter, target, timed=8, batch=16)
    assert [batch.execution for batch in found.batches] == ["masked", "compacted"]
    if len(kind.ways) > 1:
        assert tuple(way.name for way in found.ways) == kind.ways
    else:
        assert len(found.image_ms) == 8
        assert min(found.image_ms) > 0


def test_it_can_be_a_member_of_a_cascade(network):
    batch = images(24)
    cascade = chain([networks.finished(networks.config()), network], (0.5,), ("a", "b"), (12, 12)).eval()
    with torch.no_grad():
        logits = cascade(batch).numpy()
    assert_allclose(one_by_one(runner_of(to_onnx(cascade)), batch), logits, rtol=1e-4, atol=1e-4)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("kind", "format"),
    [
        *combinations(
            KINDS, [name for name in FORMATS if name not in ("executorch", "ncnn", "pt2")], every=2
        ),
        *(pytest.param(kind, "pt2", marks=pytest.mark.slow) for kind in KINDS),
    ],
    indirect=["kind"],
)
def test_every_artifact_agrees_with_torch(kind, network, format, tmp_path):
    if format in ("openvino", "coreml", "litert"):
        module = {"coreml": "coremltools", "litert": "ai_edge_litert"}.get(format, format)
        pytest.importorskip(module, reason=f"{module} is not installed")
    manifest = export_model(network, noise(), tmp_path / "model", format, images=40)
    for artifact in manifest["artifacts"]:
        assert artifact["agreement"] == artifact["exit_agreement"] == 1
        assert artifact["images"] > 20
    assert kind.manifest.items() <= manifest.items()
    assert manifest["input"]["shape"] == ["batch", 2, 12, 12]
    card = (tmp_path / "model" / "README.md").read_text()
    assert kind.card in card
    if manifest["gates"]:
        branches = format in ("onnx", "openvino", "litert")
        assert ("left out in the file for one image" if branches else "no branches for them") in card
    if format == "checkpoint":
        assert weights_digest(load_checkpoint(tmp_path / "model")) == weights_digest(network)


def test_a_network_in_int8_still_chooses(kind, network):
    model = to_int8_onnx(network, images(64, seed=1))
    batch = images(40, seed=2)
    ours = one_by_one(runner_of(model), batch)
    theirs, _ = answer(network, batch)
    assert np.quantile(np.abs(ours - theirs).max(1) / np.abs(theirs).max(), 0.75) < 0.15
    assert (ours != theirs).any()


def test_passes_that_cannot_serve_it_say_so(kind, network):
    with pytest.raises(TrainingError, match=rf"sees images at several resolutions {kind.resolutions}"):
        channel_groups(network.config)
