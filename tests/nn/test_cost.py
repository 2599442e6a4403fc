"""Multiply-adds and parameters of whole networks, against values worked out by hand."""

from dataclasses import replace

import pytest
import torch
from support.combinations import combinations
from support.networks import CLASSES, block, config, finished, images

from dynnas.nn.config.network import ExitConfig, ExitPlace, HeadConfig, NetworkConfig, StemConfig
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.cost import Cost, cost
from dynnas.nn.networks.modes import settle
from dynnas.nn.registry import BLOCKS

# 8x8 grey images; the stem makes 4x4 of 4 channels, the first block keeps that, the second makes 2x2 of 6.
STEM = 4 * 9
FIRST = 4 * 9 + 4 * 4
SECOND = 4 * 9 + 4 * 6
EXIT = 4 * 5 + 5 * 3
HEAD = 6 * 3
NORMS = 2 * (4 + 4 + 4 + 4 + 6)


def small(exits=()):
    blocks = (
        ("stage1.0", block("dwsep", "static", 4, 4)),
        ("stage2.0", block("dwsep", "static", 4, 6, stride=2)),
    )
    head = HeadConfig(6, width=0, activation="relu", dropout=0.0, classes=3)
    return NetworkConfig(1, 3, 8, StemConfig(1, 4, 3, 2, "relu"), blocks, exits, head)


def test_a_static_network():
    macs = 16 * (STEM + FIRST) + 4 * 36 + 4 * 24 + HEAD
    assert 4 * SECOND == 4 * 36 + 4 * 24
    assert cost(small()) == Cost(macs, STEM + FIRST + SECOND + HEAD + 3 + NORMS, (macs,))


def test_leaving_at_an_exit_costs_what_was_run_up_to_it():
    place = ExitPlace("stage1", "stage1.0", ExitConfig(4, 5, "relu", 3), 0.9)
    early = 16 * (STEM + FIRST) + 16 * 4 * 5 + 5 * 3
    late = early + 4 * SECOND + HEAD
    params = STEM + FIRST + SECOND + EXIT + 3 + 2 * 5 + HEAD + 3 + NORMS
    assert cost(small((place,))) == Cost(late, params, (early, late))


def test_expected_macs_weigh_each_exit_by_its_share():
    assert Cost(300, 1, (100, 300)).expected_macs((0.75, 0.25)) == 150


def test_shares_of_another_network_are_refused():
    with pytest.raises(ValueError, match="longer"):
        Cost(300, 1, (100, 300)).expected_macs((1.0,))


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("kind", "op"), combinations(BLOCKS, KERNELS, every=8))
def test_the_real_network_runs_what_was_counted(kind, op):
    network = finished(config(kind, op, exits=2, attention="se"))
    settle(network)
    counted = cost(network.config)
    assert counted.macs == count_macs(network, images())[1]
    assert counted.params == sum(parameter.numel() for parameter in network.parameters())
    assert list(counted.exit_macs) == sorted(counted.exit_macs)


def test_counting_draws_no_random_numbers():
    before = torch.get_rng_state()
    cost(config(op="condconv"))
    assert torch.equal(torch.get_rng_state(), before)


def test_more_classes_cost_more():
    few = config()
    many = replace(few, head=replace(few.head, classes=CLASSES + 1))
    assert cost(many).macs == cost(few).macs + few.head.width
