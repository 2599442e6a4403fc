"""Gates that read a policy network: shared weights, training, calibration, and trainings that go on."""

import random

import pytest
import torch
from support.interrupts import Interrupt
from support.recipes import short_training

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.load import load_data
from dynnas.language.parser import parse_space
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.gates.costs import GateCost
from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.cost import cost
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.space.moves import sample, smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.algorithms.gates.budget import budget_loss
from dynnas.training.distributed.ranks import Batch, Ranks
from dynnas.training.start import train_supernet

SPACE = parse_space("""
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: [4, 8]}
policy: {width: 8}
stages:
  - {block: mbconv, depth: [2, 3], width: [8, 16], stride: 2, expand: [2, 3],
     gate: [none, skip, halt, width, channels], gate_reads: [block, policy, recurrent],
     gate_target: [0.4, 0.7]}
exits: {positions: [stage1.0], count: [0, 1], thresholds: [0.9], width: 8}
""")
SETTINGS = TrainSettings(epochs=1, batch=64, lr=0.1, precision="float32", layout="channels_last")


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=320, augment="none"))


def test_elastic_networks_are_what_is_extracted():
    supernet = staged_supernet(SPACE, channels=1, classes=10).train()
    rng = random.Random(0)
    x = torch.randn(6, 1, 8, 8)
    for number in range(15):
        architecture = sample(SPACE, rng)
        torch.manual_seed(number)  # of the gates' noise
        elastic = supernet(architecture, x)
        torch.manual_seed(number)
        plain = supernet.extract(architecture).logits(x)
        assert all(torch.equal(one, two) for one, two in zip(elastic, plain, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "gate",
    [
        "gate: [none, skip], gate_reads: policy",
        "gate: [none, skip], gate_reads: recurrent",
        "gate: [none, halt]",
    ],
)
def test_gates_reach_their_targets(gate, dataset, tmp_path):
    space = parse_space(f"""
input: {{channels: 1, classes: 10, resolutions: 8}}
stem: {{width: 8}}
stages:
  - {{block: mbconv, depth: 5, width: 16, stride: 2, expand: 2, {gate}, gate_target: [0.4, 0.7]}}
""")
    supernet = staged_supernet(space, channels=1, classes=10)
    settings = short_training()
    train_supernet(supernet, dataset, settings, tmp_path)
    for target in (0.4, 0.7):
        values = {gene.name: gene.values[0] for gene in space.genes}
        values |= {name: target for name in values if name.endswith("gate_target")}
        network = calibrated_network(supernet, space.architecture(values), dataset, settings)
        score = accuracy(network, dataset, "search")
        size = cost(network.config)
        full = sum(gate.full for gate in size.gates)
        rest = size.macs - sum(max(gate.macs) for gate in size.gates)
        used = (sum(score.gates.image_macs) / len(score.gates.image_macs) - rest) / full
        assert abs(used - target) < 0.2, (target, used, score.gates.shares)
        assert score.top1 > 0.5


def test_a_resumed_training_ends_with_the_same_weights(dataset, tmp_path):
    whole = staged_supernet(SPACE, 1, 10)
    before = {name: value.clone() for name, value in whole.slots["policy"].named_parameters()}
    train_supernet(whole, dataset, SETTINGS, tmp_path / "whole")
    assert not any(
        torch.equal(before[name], value) for name, value in whole.slots["policy"].named_parameters()
    )
    with pytest.raises(KeyboardInterrupt):
        train_supernet(
            staged_supernet(SPACE, 1, 10), dataset, SETTINGS, tmp_path / "parts", progress=Interrupt(2)
        )
    resumed = staged_supernet(SPACE, 1, 10)
    train_supernet(resumed, dataset, SETTINGS, tmp_path / "parts")
    assert resumed.digest() == whole.digest()


def test_without_readers_nothing_is_said_of_a_policy_network():
    values = {gene.name: gene.values[0] for gene in SPACE.genes} | {"stage1.depth": 2}
    values |= {name: "block" for name in values if name.endswith("gate_reads")}
    config = SPACE.network_config(SPACE.architecture(values))
    assert config.policy is None
    assert SPACE.network_config(smallest(SPACE)).gated


def test_a_block_in_a_run_is_held_to_no_upper_bound():
    cost_of = GateCost("stage1.1", ("halted", "run"), 0.5, (0, 100), 100)
    for used, expected in ((1.0, 0.25), (0.25, 0.0625 + 0.0625)):
        rows = torch.tensor([[1 - used, used]])
        loss = budget_loss([cost_of], [Decision(rows, rows, in_a_run=True)], 1.0, Batch(Ranks(), 1))
        assert float(loss) == pytest.approx(expected)
