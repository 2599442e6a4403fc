"""The meter on this machine: real networks, timed one at a time, rank alike twice."""

import numpy as np
import pytest
import torch
from networks import block
from scipy.stats import spearmanr

from dynnas.measure import LatencyMeter, LocalTimer, Subject, build_anchors
from dynnas.ops import Network
from dynnas.runtime import build_runner
from dynnas.space.network import HeadConfig, NetworkConfig, StemConfig
from dynnas.space.settings import TargetSettings

TARGET = TargetSettings()


def network_of(width, depth, op):
    blocks = tuple(
        (f"stage1.{index}", block("mbconv", op, width, width, attention="se")) for index in range(depth)
    )
    head = HeadConfig(width, 0, "relu", 0.0, 10)
    return NetworkConfig(1, 10, 28, StemConfig(1, width, 3, 2, "relu"), blocks, (), head)


def test_anchors_are_always_the_same_and_draw_no_random_numbers():
    before = torch.get_rng_state()
    anchors = build_anchors(TARGET, channels=3, resolution=8)
    assert torch.equal(torch.get_rng_state(), before)
    assert [subject.images[0].shape for subject in anchors] == [(1, 3, 8, 8)] * 2


@pytest.mark.slow
def test_two_passes_rank_alike(tmp_path):
    meter = LatencyMeter(TARGET, build_anchors(TARGET, 1, 28), timer=LocalTimer("cpu", tmp_path))
    image = np.zeros((1, 1, 28, 28), dtype=np.float32)
    subjects = [
        Subject(build_runner(Network(network_of(width, depth, op)).eval(), TARGET), [image])
        for width in (8, 16, 24)
        for depth in (1, 2)
        for op in ("static", "condconv")
    ]
    first, second = ([meter.measure(subject) for subject in subjects] for _ in range(2))

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
