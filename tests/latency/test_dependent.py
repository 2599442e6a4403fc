"""What a network with exits takes: the arithmetic with known times, and a real network on real clocks."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.contexts import decisions
from support.gated import gated_config, undecided
from support.networks import config, finished, images, noise
from test_meter import Machine

from dynnas.candidates.candidate import MOST_TIMED, inputs_of
from dynnas.latency.dependent import (
    IMAGES_OF_A_WAY,
    WayLatency,
    Ways,
    expected_ms,
    measure_dependent,
    representative,
    way_workloads,
    ways_of,
)
from dynnas.latency.meter import LatencyMeter, LocalTimer
from dynnas.latency.rounds import Workload
from dynnas.latency.runner import build_runner
from dynnas.nn.exits.exits import leave, select_confident
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.preprocessing import prepare_images
from dynnas.settings.settings import TargetSettings

TARGET = TargetSettings(seconds=0.05, images=8, precision=0)


def of_exits(exits, step=0.0):
    """An image for each entry: its first pixel says how long it takes (see `Machine.network`)."""
    return np.array([[[[exit + step * number]]] for number, exit in enumerate(exits)], dtype=np.float32)


def test_shares_and_images_of_each_way():
    ways = Ways(("early", "late", "head"), (0, 2, 0, 0, 2, 0, 0, 0))
    assert ways.shares == (0.75, 0.0, 0.25)
    assert ways.images_of(0, most=3) == [0, 2, 3]
    assert ways.images_of(1) == []


@torch.no_grad()
def test_ways_are_those_of_the_network():
    network, batch = finished(config(exits=2)), images(300)
    ways = ways_of(network, batch)
    _, exits = select_confident(network.logits(batch), [place.threshold for place in network.config.exits])
    assert ways.names == ("stage1.0", "stage1.1", "head")
    assert ways.taken == tuple(exits.tolist())
    assert set(ways.taken) == {0, 1, 2}


def test_a_network_without_exits_has_one_way():
    ways = ways_of(finished(config(op="condconv")), images(3))
    assert (ways.names, ways.taken, ways.shares) == (("head",), (0, 0, 0), (1.0,))
    assert ways.image_macs == ()


def test_the_work_of_every_image_that_gates_decide_on():
    network, batch = undecided(gated_config(("skip", "width"), exits=1)), images(300)
    ways = ways_of(network, batch)
    with decisions(network) as decided, torch.no_grad():
        exits = leave(network.logits(batch), network.config.exits)[1]
    assert ways.image_macs == GateUse.of(cost(network.config), exits, decided).image_macs
    assert len(set(ways.image_macs)) > 4


def test_each_way_is_timed_on_its_own_images(tmp_path):
    machine = Machine()
    exits = (0, 2, 2, 0, 2, 2)
    workloads = way_workloads(
        machine.network(1.0).runner, of_exits(exits, step=0.01), Ways(("early", "late", "head"), exits)
    )
    assert list(workloads) == [0, 2]
    early, head = (
        latency.mean_ms for latency in machine.meter(tmp_path).measure_jointly([*workloads.values()])
    )
    assert early == pytest.approx((1.0 + 1.03) / 2)
    assert head == pytest.approx((3.01 + 3.02 + 3.04 + 3.05) / 4)


def test_a_way_is_timed_on_a_few_of_many_images():
    exits = (0,) * (IMAGES_OF_A_WAY + 9)
    (workload,) = way_workloads(
        Machine().network(1.0).runner, of_exits(exits), Ways(("only",), exits)
    ).values()
    assert len(workload.images) == IMAGES_OF_A_WAY


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(1, 80))
def test_some_images_stand_for_the_paths_of_all(paths, count):
    """Each path has its share, rounded to one of the two whole numbers next to it."""
    chosen = representative(np.array(paths), count)
    count = min(count, len(paths))
    assert len(set(chosen)) == len(chosen) == count
    for path in set(paths):
        wanted = count * paths.count(path) / len(paths)
        assert abs(sum(paths[number] == path for number in chosen) - wanted) < 1


def test_where_gates_decide_few_images_stand_for_light_and_heavy_ones():
    network = undecided(gated_config(("skip", "width"), exits=1))
    ways = ways_of(network, images(300))
    assert len(set(ways.image_macs)) > 2
    macs = np.array(ways.image_macs)
    chosen = macs[representative(ways.paths, 30)]
    assert chosen.mean() == pytest.approx(macs.mean(), rel=0.01)
    assert [chosen.min(), chosen.max()] == pytest.approx([macs.min(), macs.max()], rel=0.05)


def test_of_many_search_images_some_that_stand_for_all_are_timed():
    network, dataset = finished(config(exits=1)), noise()
    target = TargetSettings(images=70)
    every = prepare_images(network, dataset, dataset.search.images)
    timed, alike = inputs_of(network, dataset, target)
    assert [len(timed), timed[0].shape] == [MOST_TIMED, (1, *every.shape[1:])]
    ways = ways_of(network, torch.from_numpy(np.concatenate(timed)))
    shares = ways.shares
    assert alike.tolist() == list(ways.taken)
    assert shares == pytest.approx(ways_of(network, every).shares, abs=1 / MOST_TIMED)
    assert len(inputs_of(network, dataset, replace(target, images=20))[0]) == 20
    assert inputs_of(network, dataset, target, quantized=True)[1] is None  # int8 may decide otherwise
    assert inputs_of(network, dataset, replace(target, dtype="bfloat16"))[1] is None
    (single,), none = inputs_of(finished(config()), dataset, target)
    assert (single.shape, none) == (timed[0].shape, None)


def test_images_that_are_alike_are_of_one_way_and_of_about_the_same_work():
    network = undecided(gated_config(("skip", "width"), exits=1))
    ways = ways_of(network, images(300))
    numbers = representative(ways.paths, 64)
    groups = ways.alike(numbers)
    taken, macs = np.array(ways.taken)[numbers], np.array(ways.image_macs)[numbers]
    for group in set(groups):
        own = groups == group
        assert len(set(taken[own])) == 1
        others = taken == taken[own][0]
        assert own.sum() >= 4 or macs[own].max() == macs[others].max()  # the rest of a way
        between = others & ~own & (macs > macs[own].min()) & (macs < macs[own].max())
        assert not between.any()
    assert len(set(ways.taken)) < len(set(groups)) <= 16


def test_expected_is_shares_times_times():
    ways = [
        WayLatency("a", 0.4, 1.0, (1, 1)),
        WayLatency("b", 0.0, None, None),
        WayLatency("c", 0.6, 3.0, (3, 3)),
    ]
    assert expected_ms(ways) == pytest.approx(0.4 * 1.0 + 0.6 * 3.0)


def test_a_way_that_images_take_needs_a_time():
    ways = [WayLatency("early", 0.5, 1.0, (1.0, 1.0)), WayLatency("head", 0.5, None, None)]
    with pytest.raises(ValueError, match="no time for the ways \\['head'\\]"):
        expected_ms(ways)


def test_expected_is_the_mean_on_a_machine_that_slows_down(tmp_path):
    machine = Machine(slowdown=lambda now: 1.5 + np.sin(now * 7))
    exits = tuple(np.random.default_rng(0).choice(3, 200, p=(0.5, 0.2, 0.3)).tolist())
    ways, pixels = Ways(("early", "late", "head"), exits), of_exits(exits)
    meter, runner = machine.meter(tmp_path), machine.network(1.0).runner
    every = Workload(runner, [image[None] for image in pixels])
    workloads = way_workloads(runner, pixels, ways)
    (latency, image_ms), *measured = meter.measure_images([every, *workloads.values()], seconds=30.0)
    times = [
        WayLatency.of(name, share, one)
        for name, share, (one, _) in zip(ways.names, ways.shares, measured, strict=True)
    ]
    assert expected_ms(times) == pytest.approx(latency.mean_ms, rel=0.02)
    assert image_ms == pytest.approx(meter.reference.anchor_ms / 2 * (1 + np.array(exits)), rel=0.15)


def test_images_are_timed_for_all_of_the_seconds(tmp_path):
    machine = Machine()
    meter = machine.meter(tmp_path, target=TargetSettings(seconds=0.4, precision=0.5))
    start = machine.now
    ((latency, image_ms),) = meter.measure_images([machine.network(1.0, images=5)], seconds=3.0)
    assert image_ms == pytest.approx([1.0, 2.0, 3.0, 4.0, 5.0])
    assert latency.mean_ms == pytest.approx(3.0)
    assert 3.0 < machine.now - start < 3.0 + 4.0


@pytest.fixture
def meter(tmp_path):
    anchor = Workload(build_runner(finished(config()), TARGET), [images().numpy()])
    return LatencyMeter(TARGET, [anchor], timer=LocalTimer("cpu", tmp_path))


@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_a_network_with_exits_on_a_real_clock(meter, runtime):
    network, batch = finished(config(exits=2)), images(40)
    target = replace(TARGET, runtime=runtime)
    measured = measure_dependent(network, batch, meter, target, timed=20, batch=8)
    ways = ways_of(network, batch)
    assert len(measured.image_ms) == 20
    assert measured.image_ways == ways.taken[:20]
    assert (measured.counted, [way.share for way in measured.ways]) == (40, list(ways.shares))
    assert measured.latency.mean_ms == pytest.approx(np.mean(measured.image_ms))
    low, high = measured.latency.interval_ms
    mean = measured.latency.mean_ms
    assert low <= mean * (1 + 1e-9)
    assert mean <= high * (1 + 1e-9)
    assert min(way.mean_ms for way in measured.ways) <= measured.expected_ms
    assert [(one.execution, one.batch, one.batches) for one in measured.batches] == [
        ("masked", 8, 2),
        ("compacted", 8, 2),
    ]
    for one in measured.batches:
        assert one.image_ms == one.batch_ms / 8
        assert one.ratio == one.image_ms / measured.latency.mean_ms
    assert not measured.is_one_value
    assert json.loads(json.dumps(measured.to_dict()))["ways"][2]["name"] == "head"


def test_a_network_without_exits_is_one_value(meter):
    measured = measure_dependent(finished(config(op="dynet")), images(9), meter, TARGET, timed=5, batch=4)
    assert measured.is_one_value
    assert measured.image_ms == (measured.latency.mean_ms,)
    assert measured.expected_ms == measured.latency.mean_ms
    assert [(one.execution, one.batches) for one in measured.batches] == [("masked", 1)]


def test_too_few_images_for_a_batch(meter):
    measured = measure_dependent(finished(config(exits=1)), images(3), meter, TARGET, timed=3, batch=4)
    assert measured.batches == ()
