"""Gates that learn: the budget by hand, statistics of what really passes, resumed trainings."""

import random

import pytest
import torch
from support.contexts import executed
from support.interrupts import Interrupt
from support.recipes import short_training
from support.runs import run_of
from torch import nn

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.load import load_data
from dynnas.language.parser import parse_space
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.context import PLAIN, Context, Trace
from dynnas.nn.gates.costs import GateCost
from dynnas.nn.gates.estimators import Chooser
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.cost import cost
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.algorithms.gates.budget import BALANCE, bounds_at, budget_loss, squared_variation
from dynnas.training.algorithms.gates.learning import GateLearning
from dynnas.training.batchnorm.calibrate import calibrate
from dynnas.training.distributed.ranks import Batch, Ranks
from dynnas.training.start import train_supernet

SPACE = parse_space("""
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: [4, 8], kernel: 3, stride: 1, activation: relu}
stages:
  - {block: mbconv, depth: [2, 3], width: [8, 16], stride: 2, kernel: 3, expand: [2, 3], op: [static, dyconv],
     experts: 2, attention: [none, se], activation: relu, gate: [none, skip, width, channels],
     gate_target: [0.4, 0.7]}
head: {width: [16, 32], activation: relu, dropout: 0.1}
exits: {positions: [stage1.0], count: [0, 1], thresholds: [0.9], width: 8, activation: relu}
""")
WHOLE = Batch(Ranks(), 2)
SETTINGS = TrainSettings(epochs=1, batch=64, lr=0.1, precision="float32", layout="channels_last")


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=320, augment="none"))


def _supernet(space=SPACE):
    return staged_supernet(space, channels=1, classes=10)


def _cost(macs, full, target):
    return GateCost("stage1.1", tuple(map(str, macs)), target, macs, full)


def _rows(*rows):
    rows = torch.tensor(rows, requires_grad=True)
    return Decision(rows, rows)


def test_the_budget_is_of_the_sum_over_blocks_and_the_mean_over_images():
    costs = [_cost((10, 110), 100, 0.5), _cost((0, 100, 300), 300, 0.75)]
    decided = [_rows([1.0, 0], [0, 1.0]), _rows([0, 0, 1.0], [0, 1.0, 0])]
    used = ((10 + 300) + (110 + 100)) / 2 / 400
    target = (0.5 * 100 + 0.75 * 300) / 400
    loss = budget_loss(costs, decided, 0.0, WHOLE)
    torch.testing.assert_close(loss, torch.tensor((used - target) ** 2))
    # With the tightest bounds every block is held to its own target.
    each = [(60 / 100 - 0.5) ** 2, (200 / 300 - 0.75) ** 2]
    held = budget_loss(costs, decided, 1.0, WHOLE)
    torch.testing.assert_close(held, torch.tensor((used - target) ** 2 + sum(each) / 2))
    loss.backward()
    # d/d usage = 2 (E/F0 - t) macs / images / F0
    expected = torch.tensor([[10.0, 110.0]] * 2) * 2 * (used - target) / 2 / 400
    torch.testing.assert_close(decided[0].usage.grad, expected)


def test_uneven_loads_cost_and_bounds_fall_from_one_to_zero():
    loads = torch.tensor([[[1.0, 0], [1, 3]], [[1, 0], [3, 3]]])  # of two kinds, each of two images
    decided = [Decision(torch.eye(2), torch.eye(2), loads=loads)]
    uneven = 1 + 0.25 / 6.25  # means (1, 0) and (2, 3)
    found = float(budget_loss([_cost((0, 100), 100, 0.5)], decided, 0.0, WHOLE))
    assert found == pytest.approx(BALANCE * uneven)
    assert (bounds_at(0, 10), bounds_at(10, 10)) == (1.0, pytest.approx(0.0))
    assert bounds_at(5, 10) == pytest.approx(0.5)


def test_squared_variation_by_hand():
    values = torch.tensor([[1.0, 3.0, 2.0], [2.0, 2.0, 2.0], [3.0, 0.0, 0.0]])
    assert squared_variation(values).tolist() == pytest.approx([1 / 6, 0, 2])


def test_noise_falls_to_nothing_before_the_end():
    runs = [run_of(total=100, step=step) for step in (0, 30, 75, 100)]
    noise = [GateLearning().context(run, PLAIN)[GateMode].noise for run in runs]
    assert noise == pytest.approx([1.0, 0.6, 0.0, 0.0])
    chooser, still = Chooser().train(), Context(GateMode(noise=0.0))
    logits = torch.randn(50, 3)
    assert torch.equal(chooser(logits, context=still), chooser.eval()(logits))


def test_the_teacher_has_no_gates():
    space = parse_space("""
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 8}
stages:
  - {block: mbconv, depth: 2, width: 8, gate: [skip, width]}
""")
    supernet = _supernet(space).eval()
    x = torch.randn(64, 1, 8, 8)
    torch.manual_seed(0)  # of the gates' noise
    trace = Trace()
    with torch.no_grad():
        opened = supernet(largest(space), x, open_gates=True, context=PLAIN.traced(trace))
    assert not trace.of(Decision)
    network = supernet.extract(largest(space), open_gates=True).train()
    assert not network.config.gated
    with torch.no_grad():
        assert torch.equal(opened[0], network.logits(x)[0])
        assert not torch.equal(opened[0], supernet.train()(smallest(space), x)[0])


WAYS = {
    "gumbel": {},
    "reinforce": {"gate_learning": {"estimator": "reinforce"}},
    "straight, then reinforce": {"gate_learning": {"estimator": "straight", "reinforce_epochs": 4.0}},
    "guided": {"gate_guidance": {"weight": 0.1}},
}


@pytest.mark.parametrize(
    ("way", "gates"),
    [
        ("gumbel", "none, skip, width"),
        *(pytest.param(way, "none, skip, width", marks=pytest.mark.slow) for way in [*WAYS][1:]),
        pytest.param("gumbel", "none, routes", marks=pytest.mark.slow),
    ],
)
def test_gates_reach_their_targets(dataset, tmp_path, way, gates):
    space = parse_space(f"""
input: {{channels: 1, classes: 10, resolutions: 8}}
stem: {{width: 8}}
stages:
  - {{block: mbconv, depth: 4, width: 16, stride: 2, expand: 2, gate: [{gates}], gate_target: [0.4, 0.7]}}
""")
    supernet = _supernet(space)
    settings = short_training(**WAYS[way])
    train_supernet(supernet, dataset, settings, tmp_path)
    for target in (0.4, 0.7):
        values = {gene.name: gene.values[0] for gene in space.genes}
        values |= {name: target for name in values if name.endswith("gate_target")}
        network = calibrated_network(supernet, space.architecture(values), dataset, settings)
        score = accuracy(network, dataset, "search")
        assert score.gates is not None
        used = _gated_share(network, score)
        assert score.top1 > 0.6
        assert score.gates.policies > 1
        # New gates use 0.88. Trainings this short miss by up to 0.23, as the random numbers fall.
        assert abs(used - target) < 0.3, (target, used, score.gates.shares)


def _gated_share(network, score):
    size = cost(network.config)
    full = sum(gate.full for gate in size.gates)
    rest = size.macs - sum(max(gate.macs) for gate in size.gates)
    return (sum(score.gates.image_macs) / len(score.gates.image_macs) - rest) / full


@pytest.mark.slow
def test_a_resumed_training_ends_with_the_same_weights(dataset, tmp_path):
    whole = _supernet()
    train_supernet(whole, dataset, SETTINGS, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_supernet(_supernet(), dataset, SETTINGS, tmp_path / "parts", progress=Interrupt(2))
    resumed = _supernet()
    train_supernet(resumed, dataset, SETTINGS, tmp_path / "parts")
    assert resumed.digest() == whole.digest()
    assert resumed.digest() != _supernet().digest()


def _skipping():
    space = parse_space("""
input: {channels: 3, classes: 4, resolutions: 8}
stem: {width: 6}
stages: [{block: conv, depth: 2, width: 6, gate: skip}]
""")
    network = staged_supernet(space, channels=3, classes=4).extract(smallest(space))
    gated = network.slots["stage1__1"]
    with torch.no_grad():
        gated.gate[0].expand.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(3)
        gated.gate[0].expand.bias.zero_()
    return network, gated


def test_a_skipped_block_is_calibrated_on_the_images_that_pass():
    network, gated = _skipping()
    images = torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    calibrate(network, images, batch=48)
    means, variances, counts = [], [], []
    with torch.no_grad():
        for part in images.split(48):
            # As while calibrating: the layers before normalise by the batch.
            x = part
            for slot in ("stem", "stage1__0"):
                unit = network.slots[slot] if slot == "stem" else network.slots[slot].conv
                y = unit.conv(x, None)
                x = unit.act(nn.functional.batch_norm(y, None, None, unit.norm.weight, unit.norm.bias, True))
            runs = gated.decide(x).choice[:, 1]
            assert 0 < runs.sum() < 48
            y = gated.block.conv.conv(x[runs], None).transpose(0, 1).flatten(1)
            means.append(y.mean(1))
            variances.append(y.var(1))
            counts.append(float(runs.sum()))
    weights = torch.tensor(counts)[:, None] / sum(counts)
    norm = gated.block.conv.norm
    torch.testing.assert_close(norm.running_mean, (torch.stack(means) * weights).sum(0))
    torch.testing.assert_close(norm.running_var, (torch.stack(variances) * weights).sum(0))


def test_a_block_that_no_image_runs_has_the_statistics_of_all():
    network, gated = _skipping()
    with torch.no_grad():
        gated.gate[0].expand.weight.zero_()
        gated.gate[0].expand.bias.copy_(torch.tensor([9.0, 0.0]))
    images = torch.randn(64, 3, 8, 8)
    calibrate(network, images)
    found = gated.block.conv.norm.running_var.clone()
    ungated = staged_supernet(
        parse_space("""
input: {channels: 3, classes: 4, resolutions: 8}
stem: {width: 6}
stages: [{block: conv, depth: 2, width: 6}]
"""),
        channels=3,
        classes=4,
    )
    plain = ungated.extract(smallest(ungated.space))
    values = {name.replace(".block.", "."): value for name, value in network.state_dict().items()}
    plain.load_state_dict({name: values[name] for name in plain.state_dict()})
    calibrate(plain, images)
    torch.testing.assert_close(found, plain.slots["stage1__1"].conv.norm.running_var)


def test_a_channel_is_calibrated_on_the_images_that_have_it():
    space = parse_space("""
input: {channels: 3, classes: 4, resolutions: 8}
stem: {width: 6}
stages: [{block: fused_mbconv, depth: 1, width: 6, expand: 2, gate: width}]
""")
    network = staged_supernet(space, channels=3, classes=4).extract(smallest(space))
    gated = network.slots["stage1__0"]
    with torch.no_grad():
        gated.gate[0].expand.weight.normal_(generator=torch.Generator().manual_seed(0)).mul_(3)
        gated.gate[0].expand.bias.zero_()
    images = torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    calibrate(network, images, batch=64)
    stem = network.slots["stem"]
    with torch.no_grad():
        x = stem.act(
            nn.functional.batch_norm(
                stem.conv(images, None), None, None, stem.norm.weight, stem.norm.bias, True
            )
        )
        widths = torch.tensor(gated.widths)[gated.decide(x).choice.int().argmax(1)]
        y = gated.block.expand.conv(x, None)
    assert len(widths.unique()) > 1
    norm = gated.block.expand.norm
    for channel in range(12):
        own = y[widths > channel, channel]
        own = y[:, channel] if not len(own) else own
        torch.testing.assert_close(norm.running_mean[channel], own.mean())
        torch.testing.assert_close(norm.running_var[channel], own.var())


def test_gates_are_shared_by_the_ops_of_a_block_that_share_nothing_else():
    supernet = staged_supernet(SPACE, channels=1, classes=10, experts="separate")
    rng = random.Random(3)
    for _ in range(6):
        assert supernet.extract(sample(SPACE, rng)).config
    names = [name for name, _ in supernet.named_parameters() if "/gate/" in name]
    assert names
    assert not [name for name in names if "static" in name or "dyconv" in name]


def test_calibrated_networks_run_for_real_as_they_were_scored(dataset):
    supernet = _supernet()
    rng = random.Random(0)
    for _ in range(4):
        network = calibrated_network(supernet, sample(SPACE, rng), dataset, SETTINGS)
        x = dataset.normalise(dataset.search.images[:16])
        with torch.no_grad():
            masked = network.logits(x)
            network = executed(network, "real")
            real = network.logits(x)
        for ours, theirs in zip(masked, real, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
