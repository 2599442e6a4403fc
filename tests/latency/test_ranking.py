"""The meter on this machine: real networks, timed one at a time, rank alike twice."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from support.networks import block

from dynnas.language.parser import parse_space
from dynnas.latency.anchors import _middle, build_anchors
from dynnas.latency.meter import LatencyMeter, LocalTimer
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.config.network import HeadConfig, NetworkConfig, StemConfig
from dynnas.nn.networks.network import Network
from dynnas.settings.settings import TargetSettings

TARGET = TargetSettings()
SPACE = parse_space("""
input: {resolutions: 12}
stem: {width: 8}
stages:
  - {block: mbconv, depth: [2, 3], width: [4, 8, 16, 32], op: [static, condconv], experts: [2, 4]}
  - {block: conv, width: 8, op: static}
head: {}
exits: {positions: [stage1], count: 1, thresholds: 0.9}
""")


def network_of(width, depth, op):
    blocks = tuple(
        (f"stage1.{index}", block("mbconv", op, width, width, attention="se")) for index in range(depth)
    )
    head = HeadConfig(width, 0, "relu", 0.0, 10)
    return NetworkConfig(1, 10, 28, StemConfig(1, width, 3, 2, "relu"), blocks, (), head)


def test_anchors_are_always_the_same_and_draw_no_random_numbers():
    before = torch.get_rng_state()
    first, second = (build_anchors(SPACE, TARGET, channels=3, classes=7) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    image = np.ones((1, 3, 12, 12), dtype=np.float32)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one.runner(image), other.runner(image))
        assert one.runner(image).shape == (1, 7)
        assert one.images[0].shape == (1, 3, 12, 12)


def test_anchors_have_static_and_dynamic_layers_of_middle_size_and_no_exits():
    first, second = (SPACE.network_config(_middle(SPACE, turn)) for turn in range(2))
    assert {config.op.name for _, config in first.blocks} == {"static", "condconv"}
    assert [config.out_channels for _, config in (first.blocks[0], second.blocks[0])] == [8, 16]


@pytest.mark.slow
def test_two_passes_rank_alike(tmp_path):
    meter = LatencyMeter(TARGET, build_anchors(SPACE, TARGET, 1, 10), timer=LocalTimer("cpu", tmp_path))
    image = np.zeros((1, 1, 28, 28), dtype=np.float32)
    workloads = [
        Workload(build_runner(Network(network_of(width, depth, op)).eval(), TARGET), [image])
        for width in (8, 16, 24)
        for depth in (1, 2)
        for op in ("static", "condconv")
    ]
    first, second = ([meter.measure(workload) for workload in workloads] for _ in range(2))

    def agreement(value):
        return spearmanr(
            [value(latency) for latency in first], [value(latency) for latency in second]
        ).statistic

    plain, anchored = (
        agreement(lambda latency: latency.plain_median_ms.value),
        agreement(lambda latency: latency.latency_ms),
    )
    print(f"rank correlation of two passes: plain median {plain:.3f}, anchored {anchored:.3f}")
    assert anchored > 0.9
