"""Calibrated statistics, against averages computed by hand."""

import copy

import pytest
import torch
from support import networks
from support.sized import sized_config, undecided
from torch import nn

from dynnas.language.parser import parse_space
from dynnas.nn.networks.network import Network, slot_module
from dynnas.space.moves import smallest
from dynnas.supernet.staged import staged_supernet
from dynnas.training.batchnorm.calibrate import calibrate

SPACE = parse_space("""
input: {channels: 3, classes: 4, resolutions: 8}
stem: {width: 4, kernel: 3, stride: 1, activation: relu}
stages:
  - {block: mbconv, depth: 1, width: 4, stride: 1, kernel: 3, expand: 2,
     op: condconv, experts: 2, activation: relu}
head: {width: 8, activation: relu, dropout: 0.5}
""")


@pytest.fixture
def network():
    return staged_supernet(SPACE, channels=3, classes=4).extract(smallest(SPACE))


def test_statistics_are_the_average_over_batches(network):
    images = torch.randn(96, 3, 8, 8)
    stem = network.segments()[0].body[0].conv
    norm = next(module for module in network.modules() if isinstance(module, nn.BatchNorm2d))
    calibrate(network, images, batch=32)
    with torch.no_grad():
        features = [stem(part).transpose(0, 1).flatten(1) for part in images.split(32)]
    torch.testing.assert_close(
        norm.running_mean, torch.stack([f.mean(1) for f in features]).mean(0), atol=1e-6, rtol=1e-4
    )
    torch.testing.assert_close(norm.running_var, torch.stack([f.var(1) for f in features]).mean(0))


def test_calibration_starts_over_and_restores_the_modules(network):
    first, second = torch.randn(64, 3, 8, 8), torch.randn(64, 3, 8, 8) + 3
    calibrate(network, first)
    calibrate(network, second)
    fresh = staged_supernet(SPACE, channels=3, classes=4).extract(smallest(SPACE))
    calibrate(fresh, second)
    for ours, theirs in zip(network.buffers(), fresh.buffers(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(module.training for module in network.modules())
    assert {module.momentum for module in network.modules() if isinstance(module, nn.BatchNorm2d)} == {0.1}


def test_a_last_batch_of_one_image_is_left_out(network):
    images = torch.randn(33, 3, 8, 8)
    calibrate(network, images, batch=32)
    expected = [buffer.clone() for buffer in network.buffers()]
    calibrate(network, images[:32], batch=32)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(network.buffers(), expected, strict=True))


def test_dropout_takes_no_part(network):
    images = torch.randn(64, 3, 8, 8)
    torch.manual_seed(0)
    calibrate(network, images)
    expected = [buffer.clone() for buffer in network.buffers()]
    torch.manual_seed(1)
    calibrate(network, images)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(network.buffers(), expected, strict=True))


def test_a_chosen_resolution_has_at_every_size_the_statistics_of_all_images():
    network, images = undecided(sized_config()), networks.images(64)
    calibrate(network, images)
    chosen = network.chosen
    for member, resize in zip(chosen.members, chosen.resizes, strict=True):
        slots = {slot: copy.deepcopy(member.slots[slot_module(slot)]) for slot, _ in member.config.slots()}
        alone = calibrate(Network(member.config, slots), resize(images))
        expected = dict(alone.slots.named_buffers())
        assert expected
        for name, buffer in member.slots.named_buffers():
            torch.testing.assert_close(buffer, expected[name], atol=1e-5, rtol=1e-4)
