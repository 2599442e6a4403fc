"""Where networks break design rules: published blocks, counts by hand, and the bound of the paper."""

import math

import pytest
import torch
from support import published
from torch import nn

from dynnas.language.parser import parse_space
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.design_rules import Convolution, block_breaks, breaks_of, operations_of
from dynnas.report.tables.rules import rules_table
from dynnas.space.moves import largest


def broken(config):
    found = {}
    for each in breaks_of(config):
        found.setdefault(each.rule, []).append(each)
    return found


def test_traffic_is_least_for_equal_channels():
    """Equation 3 of ShuffleNetV2, for 128 x 128 channels and the ratios of its table 1."""
    for before, after in ((128, 128), (90, 180), (52, 312), (36, 432)):
        conv = Convolution(before, after, 1, 1, 1, 56, 56, 0)
        hw, macs = 56 * 56, 56 * 56 * before * after
        moved = hw * (before + after) + before * after
        assert conv.traffic == pytest.approx(moved / (2 * math.sqrt(hw * macs) + macs / hw))
        assert conv.traffic >= 1 - 1e-9
    assert Convolution(128, 128, 1, 1, 1, 56, 56, 0).traffic == pytest.approx(1)
    assert Convolution(36, 432, 1, 1, 1, 56, 56, 0).traffic > 1.8


class Cell(nn.Module):
    """Three branches on one map, one of them in groups, joined by sums."""

    def __init__(self):
        super().__init__()
        self.one, self.three = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.other, self.last = nn.Conv2d(8, 8, 1), nn.Conv2d(8, 64, 1)

    def forward(self, x):
        return self.last((self.one(x) + self.three(x)).relu() * torch.sigmoid(self.other(x)))


def test_operations_are_counted_as_they_run():
    found = operations_of(Cell(), torch.zeros(1, 8, 6, 5))
    assert [(c.kernel, c.groups, c.source) for c in found.convolutions] == [
        (1, 1, 0),
        (3, 4, 0),
        (1, 1, 0),
        (1, 1, 1),
    ]
    assert found.macs == 30 * (64 + 8 * 2 * 9 + 64 + 512)
    assert found.elementwise == 4 * 8 * 30  # a sum, a ReLU, a sigmoid, a product
    rules = {each.rule: each for each in block_breaks("cell", found)}
    assert {rule: each.degree for rule, each in rules.items()} == {
        "unequal channels": 8.0,
        "groups": 4.0,
        "branches": 3.0,
    }
    assert rules["branches"].says == "3 convolutions read one map"


def test_published_networks_break_what_their_critics_say():
    first = broken(published.mobilenet_v2())
    assert {"unequal channels"} <= set(first)
    assert all(each.degree == pytest.approx(6, abs=0.1) for each in first["unequal channels"])
    assert "groups" not in first
    assert "branches" not in first
    plain = broken(published.resnet18())
    assert not {"unequal channels", "groups", "branches"} & set(plain)


def test_multiply_adds_of_blocks_are_those_of_the_cost():
    space = parse_space("""
input: {channels: 3, classes: 10, resolutions: 64}
stem: {width: 16, stride: 1}
stages:
  - {block: conv, depth: 2, width: 16}
  - {block: conv, depth: 1, width: 16, stride: 4}
  - {block: mbconv, depth: 2, width: 24, stride: 2, expand: 6, attention: se}
  - {block: shuffle_v1, depth: 1, width: 48, stride: 2}
head: {width: 64}
""")
    architecture = largest(space)
    config = space.network_config(architecture)
    found = broken(config)
    (early,) = {each.degree for each in found["early high resolution"]}
    at_two = 64 * 64 * 9 * (3 * 16 + 2 * 16 * 16)
    assert 0.3 < at_two / cost(config).macs < early < 1
    assert [each.place for each in found["unequal channels"]] == ["stage3.0", "stage3.1"]
    assert [(each.place, each.degree) for each in found["groups"]] == [("stage4.0", 2.0)]
    assert "branches" not in found
    table = rules_table(config, "largest")
    assert table.title == "design rules that the largest network breaks"
    rows = {(rule, where) for rule, where, _ in table.rows}
    assert ("groups", "stage4.0") in rows
    assert ("early high resolution", "stem to stage1.1") in rows
