"""The overhead of a chain, on a simulated machine whose true times are known and which has other work."""

from dataclasses import replace

import numpy as np
import pytest
from support import networks

from dynnas.latency.cascades import measure_overhead
from dynnas.latency.latency import AnchorReference
from dynnas.latency.meter import LatencyMeter
from dynnas.settings.settings import TargetSettings

ALONE, LATER, LEAVE, RESIZE = (1.0, 10.0), (0.3, 0.2), 0.05, 0.15
ANCHORS = (1.0, 2.0)
TARGET = TargetSettings(seconds=0.1)


def true_times():
    """Milliseconds of what is timed, in order; the first of two networks takes smaller images."""
    both = sum(ALONE) + RESIZE
    smaller = ALONE[0] + RESIZE
    return [smaller + LEAVE, ALONE[0], both + LATER[0], smaller, ALONE[1], both + LATER[1]]


def simulated_timer(busy, seed):
    """A timer of 60 rounds.

    While others run, all takes twice as long. The longer a run, the surer it is taken off the processor once.
    """
    draw = np.random.default_rng(seed)

    def timer(workloads, anchors, plan):
        ms = np.array([*true_times(), *ANCHORS])[:, None]
        ms = ms * np.exp(draw.normal(0, 0.01, (len(ms), 60)))
        assert len(workloads) + len(anchors) == len(ms)
        if busy:
            ms = ms * np.where(draw.random((1, 60)) < 0.5, 2.0, 1.0)
            ms = ms + 4.0 * (draw.random(ms.shape) < 1 - np.exp(-ms / 40))
        return ms

    return timer


def measured(busy, seed):
    configs = [replace(networks.config(width=width), resolution=size) for width, size in ((1, 12), (2, 16))]
    scale = AnchorReference(float(np.sqrt(np.prod(ANCHORS))), "")
    meter = LatencyMeter(TARGET, [None, None], scale, simulated_timer(busy, seed))
    return measure_overhead([networks.finished(config) for config in configs], networks.noise(), meter)


@pytest.mark.parametrize("busy", [False, True])
def test_the_overhead_is_the_true_one(busy):
    for seed in range(5):
        found = measured(busy, seed)
        assert found.later == pytest.approx(LATER, abs=0.15)
        assert found.leave == pytest.approx(LEAVE, abs=0.1)
        assert found.resize == (pytest.approx(RESIZE, abs=0.1), 0.0)
