"""Trainings of networks with experts and tiles: they run for real as scored, and no expert is forgotten."""

import pytest
import torch
from support.contexts import decisions, executed
from support.recipes import short_training

from dynnas.candidates.candidate import calibrated_network
from dynnas.data.load import load_data
from dynnas.language.parser import parse_space
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.networks.cost import cost
from dynnas.settings.settings import DataSettings
from dynnas.space.moves import largest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.start import train_supernet

SPACE = parse_space("""
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: 8}
stages:
  - {block: mbconv, depth: 3, width: 16, expand: 2, gate_target: 0.5, gate_experts: 4,
     layers: {0: {gate: moe}, 1: {gate: positions}, 2: {gate: [none, moe]}}}
head: {width: 32}
""")
SETTINGS = short_training()


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=320, augment="none"))


@pytest.mark.slow
def test_tiles_reach_their_target_and_every_expert_is_used(dataset, tmp_path):
    supernet = staged_supernet(SPACE, channels=1, classes=10)
    train_supernet(supernet, dataset, SETTINGS, tmp_path)
    network = calibrated_network(supernet, largest(SPACE), dataset, SETTINGS)
    score = accuracy(network, dataset, "search")
    assert score.gates is not None
    assert score.top1 > 0.35
    experts, tiles = cost(network.config).gates
    assert 0.4 < experts.macs[0] / experts.full < 0.6
    shares = [score.gates.shares["stage1.1"][name] for name in tiles.alternatives]
    used = sum(share * macs for share, macs in zip(shares, tiles.macs, strict=True)) / tiles.full
    assert abs(used - 0.5) < 0.25

    x = dataset.normalise(dataset.search.images[:200])
    with torch.no_grad(), decisions(network) as found:
        masked = network.logits(x)
    network = executed(network, "real")
    with torch.no_grad():
        real = network.logits(x)
    torch.testing.assert_close(real[0], masked[0], atol=1e-4, rtol=1e-4)
    loads = found[0].choice.float().mean(0)
    assert loads.sum().item() == pytest.approx(2)
    assert loads.min() > 0.05
