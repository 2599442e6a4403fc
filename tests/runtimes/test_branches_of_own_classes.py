"""Gates and exits anywhere in a network of one's own: what an image leaves out does not run."""

import pytest
import torch
from numpy.testing import assert_allclose
from support.contexts import executed
from support.networks import one_by_one
from support.own_branches import Branchy, conv, leave, undecided
from support.profiled import convolutions_run
from torch import nn

from dynnas.latency.dependent import ways_of
from dynnas.latency.runner import build_runner
from dynnas.nn import Halting
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.gates.gate import Decision
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings
from dynnas.training.batchnorm.calibrate import calibrate

SHAPE = (3, 12, 12)


def images(count, seed=0):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def plain(**arguments):
    torch.manual_seed(0)
    return PlainNetwork(undecided(Branchy(**arguments), images(64)), SHAPE, 5).eval()


@pytest.fixture(scope="module")
def network():
    return plain()


@torch.no_grad()
def masked(network, x):
    """What every image gets if everything is computed, where it leaves, and what gates decide."""
    with tracing(network, Decision, Left) as trace:
        outputs = network(x)
    return outputs.numpy(), trace.of(Left)[0].taken, trace.of(Decision)


@torch.no_grad()
def test_masked_equals_real(network):
    outputs, taken, decided = masked(network, images(40))
    assert {*taken.tolist()} == {0, 1, 2}
    assert all(0 < float(decision.usage[:, 0].mean()) < 1 for decision in decided)
    real = executed(network, "real")
    assert_allclose(real(images(40)).numpy(), outputs, rtol=1e-4, atol=1e-4)
    assert_allclose(torch.cat([real(image[None]) for image in images(40)]), outputs, rtol=1e-4, atol=1e-4)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("export", [to_onnx, to_packed_onnx])
@pytest.mark.parametrize(("op", "gate"), [("static", "width"), ("condconv", "moe"), ("static", "positions")])
def test_the_graph_for_one_image_answers_as_the_masked_network(export, op, gate):
    network = plain(op=op, gate=gate)
    outputs, *_ = masked(network, images(24))
    runner = OnnxRunner(export(network).SerializeToString(), threads=1)
    assert_allclose(one_by_one(runner, images(24)), outputs, rtol=1e-4, atol=1e-4)


def test_the_graph_for_batches_is_masked(network):
    outputs, *_ = masked(network, images(24))
    runner = OnnxRunner(to_onnx_batch(network).SerializeToString(), threads=1)
    assert_allclose(runner(images(24).numpy()), outputs, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def convolutions_in_torch(network, image):
    """How many of torch's convolutions an image runs."""
    ran = []
    real = executed(network, "real")
    for module in real.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda *_: ran.append(1))
    real(image)
    return len(ran)


def test_what_an_image_leaves_out_is_not_run(network, tmp_path):
    """ONNX Runtime's own profiler sees as many convolutions more as torch runs, image by image."""
    model = to_onnx(network)
    found = {}
    for image in images(24):
        ran = convolutions_in_torch(network, image[None])
        if ran not in found:
            found[ran] = convolutions_run(model, image[None].numpy(), tmp_path)
    least = min(found)
    assert len(found) > 3
    assert {ran: count - found[least] for ran, count in found.items()} == {ran: ran - least for ran in found}


@torch.no_grad()
def test_a_run_of_modules_ends_where_an_image_has_had_enough(tmp_path):
    torch.manual_seed(0)
    halting = Halting((conv(8, 8) for _ in range(4)), 8)
    module = nn.Sequential(conv(3, 8), halting, leave(8, 5)).train()
    for step in range(60):
        module(images(32, seed=step))
    for halt in halting.halts:
        halt.gate[0].expand.weight.mul_(40)
        halt.gate[0].expand.bias.fill_(-1.5)
    network = PlainNetwork(module.eval(), SHAPE, 5).eval()
    with tracing(network, Decision) as trace:
        expected = network(images(24))
    steps = torch.stack([decision.choice[:, 1] for decision in trace.of(Decision)]).sum(0)
    assert len({*steps.tolist()}) > 1
    real = executed(network, "real")
    assert_allclose(real(images(24)), expected, rtol=1e-4, atol=1e-4)
    for export in (to_onnx, to_packed_onnx):
        runner = OnnxRunner(export(network).SerializeToString(), threads=1)
        assert_allclose(one_by_one(runner, images(24)), expected, rtol=1e-4, atol=1e-4)
    fewest, most = images(24)[steps.argmin()], images(24)[steps.argmax()]
    model = to_onnx(network)
    ran = [convolutions_run(model, image[None].numpy(), tmp_path) for image in (fewest, most)]
    assert ran[1] - ran[0] == int(steps.max() - steps.min())


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "litert"])
def test_runners_give_what_the_masked_network_gives(network, runtime):
    if runtime == "litert":
        pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    outputs, *_ = masked(network, images(16))
    runner = build_runner(network, TargetSettings(runtime=runtime))
    assert_allclose(one_by_one(runner, images(16)), outputs, rtol=1e-3, atol=1e-3)


def test_the_runner_in_torch_leaves_out_what_the_image_does(network, monkeypatch):
    ran = []
    forward = nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda self, x: ran.append(self) or forward(self, x))
    runner = build_runner(network, TargetSettings(runtime="torch"))
    _, taken, _ = masked(network, images(16))
    for image, exit in zip(images(16), taken, strict=True):
        ran.clear()
        runner(image[None].numpy())
        assert sum(layer.out_features == 5 for layer in ran) == exit + 1


@torch.no_grad()
def test_costs_are_those_of_what_each_image_runs(network):
    _, taken, decided = masked(network, images(24))
    size = cost_of(network)
    assert len(size.exit_macs) == 3
    assert list(size.exit_macs) == sorted({*size.exit_macs})
    assert [gate.slot for gate in size.gates] == [
        "module.skips.0",
        "module.skips.1",
        "module.gated",
        "module.exits.stages.1.1",
        "module.exits.stages.2",
    ]
    assert size.stretches == (0, 0, 0, 1, 2)
    use = GateUse.of(size, taken, decided)
    real = executed(network, "real")
    assert list(use.image_macs) == [count_macs(real, image[None])[1] for image in images(24)]
    ways = ways_of(network, images(24))
    assert ways.names == ("exit0", "exit1", "head")
    assert ways.taken == tuple(taken.tolist())
    assert ways.image_macs == use.image_macs


def test_statistics_are_those_of_the_images_that_pass(network):
    """Exits keep no image from a later stage's norms, gates do."""
    ours = plain(gate="width")
    stem, behind = ours.module.stem[1], ours.module.exits.stages[1][0][1]
    for norm in (stem, behind):
        norm.reset_running_stats()
    x = images(48, seed=5)
    calibrate(ours, x, batch=48)
    seen = {}
    for name, norm in (("stem", stem), ("behind", behind)):
        norm.register_forward_pre_hook(lambda _, inputs, name=name: seen.update({name: inputs[0]}))
    masked(ours, x)
    assert_allclose(stem.running_mean, seen["stem"].mean((0, 2, 3)), rtol=1e-4, atol=1e-5)
    assert len(seen["behind"]) == 48
    assert behind.running_mean.abs().sum() > 0
