"""The meter's arithmetic, with a clock that the networks under test move themselves."""

import gc
import random
from dataclasses import replace

import numpy as np
import pytest

from dynnas.errors import StudyError
from dynnas.latency.fingerprint import environment_fingerprint
from dynnas.latency.interval import median_by
from dynnas.latency.latency import AnchorReference
from dynnas.latency.meter import LatencyMeter, LocalTimer
from dynnas.latency.rounds import Workload
from dynnas.settings.settings import TargetSettings

TARGET = TargetSettings(seconds=0.4, precision=0)
IMAGE = np.zeros((1, 1, 2, 2), dtype=np.float32)


class Machine:
    """A clock, and networks of known times that move it, at a speed that may drift."""

    def __init__(self, slowdown=lambda now: 1.0):
        self.now = 0.0
        self.slowdown = slowdown

    def clock(self):
        return self.now

    def network(self, ms, images=1):
        """`ms` a run, times the value of the image's first pixel plus one."""

        def run(image):
            self.now += ms / 1e3 * (1 + float(image.flat[0])) * self.slowdown(self.now)
            return image

        return Workload(run, [IMAGE + index for index in range(images)])

    def meter(self, folder, anchors=(1.0, 4.0), reference=None, target=TARGET):
        workloads = [self.network(ms) for ms in anchors]
        return LatencyMeter(target, workloads, reference, LocalTimer("cpu", folder, self.clock))


def test_a_steady_machine_gives_the_known_time(tmp_path):
    machine = Machine()
    latency = machine.meter(tmp_path).measure(machine.network(3.0))
    assert latency.latency_ms == pytest.approx(3.0)
    assert latency.ratio == pytest.approx(1.5)
    repeats = latency.repeats
    assert [latency.plain_low_ms.value, repeats.mean_ms, repeats.worst_ms] == pytest.approx([3.0, 3.0, 3.0])
    assert repeats.iqr_ms == pytest.approx(0, abs=1e-9)


def test_the_time_spent_is_the_target(tmp_path):
    machine = Machine()
    meter, workload = machine.meter(tmp_path), machine.network(3.0)
    start = machine.now
    latency = meter.measure(workload)
    assert latency.rounds == pytest.approx(0.4 / (2 * 8e-3), abs=1)
    assert machine.now - start < 2 * TARGET.seconds


def test_the_scale_is_the_anchors_geometric_mean(tmp_path):
    assert Machine().meter(tmp_path).reference.anchor_ms == pytest.approx(2.0)


def test_a_machine_that_becomes_slower_measures_the_same(tmp_path):
    # Half as fast every four seconds.
    machine = Machine(slowdown=lambda now: 2 ** (now / 4))
    meter = machine.meter(tmp_path, reference=AnchorReference(2.0, "here"))
    workload = machine.network(3.0)
    latencies = [meter.measure(workload) for _ in range(8)]
    assert latencies[-1].plain_median_ms.value > 1.5 * latencies[0].plain_median_ms.value
    for latency in latencies:
        assert latency.latency_ms == pytest.approx(3.0, rel=0.03)


def test_interruptions_do_not_count(tmp_path):
    rng = random.Random(0)
    machine = Machine(slowdown=lambda now: 50.0 if rng.random() < 0.1 else 1.0)
    latency = machine.meter(tmp_path, reference=AnchorReference(2.0, "here")).measure(machine.network(3.0))
    assert latency.repeats.worst_ms == pytest.approx(150)
    assert latency.latency_ms == pytest.approx(3.0)


def test_an_input_dependent_network_has_a_distribution_over_images(tmp_path):
    machine = Machine()
    latency = machine.meter(tmp_path).measure(machine.network(1.0, images=21))
    assert latency.mean_ms == pytest.approx(11.0)
    assert latency.median_ms == pytest.approx(11.0)
    assert latency.p95_ms == pytest.approx(20.0)
    assert latency.worst_ms == pytest.approx(21.0)


def test_many_images_take_as_long_as_one_where_others_use_the_machine(tmp_path):
    """Among three runs of an image two are often disturbed, so that their median is above that of many."""
    draw = random.Random(0)
    machine = Machine(slowdown=lambda now: 1 + draw.expovariate(1) ** 2)
    one = machine.network(3.0)
    images = [IMAGE] * 100
    workloads = [one, replace(one, images=images), replace(one, images=images, paths=np.arange(100) % 3)]
    meter = machine.meter(tmp_path, target=replace(TARGET, seconds=0.1))
    single, apart, together = (latency.mean_ms for latency in meter.measure_jointly(workloads))
    assert together == pytest.approx(single, rel=0.1)
    assert apart > 1.2 * single


def test_images_of_a_path_share_the_median_of_all_their_runs():
    values = np.random.default_rng(0).random((5, 4, 6))
    paths = np.array([7, 2, 7, 7, 2, 9])
    found = median_by(paths)(values, 1)
    assert found.shape == (5, 6)
    for image, path in enumerate(paths):
        assert found[:, image] == pytest.approx(np.median(values[:, :, paths == path], axis=(1, 2)))
    assert median_by(paths)(values[0], 0) == pytest.approx(found[0])
    assert median_by(None)(values, 1) == pytest.approx(np.median(values, axis=1))


def test_a_precise_measurement_ends_early(tmp_path):
    rng = random.Random(0)
    noisy = Machine(slowdown=lambda now: rng.lognormvariate(0, 0.05))
    reference = AnchorReference(2.0, "here")
    target = TargetSettings(seconds=10.0, precision=0.02)
    latency = noisy.meter(tmp_path, reference=reference, target=target).measure(noisy.network(3.0))
    low, high = latency.interval_ms
    assert low < latency.latency_ms < high
    assert (high - low) / 2 <= 0.02 * latency.latency_ms
    assert noisy.now < 5.0
    exact = noisy.meter(tmp_path, reference=reference, target=replace(target, precision=0.004))
    assert exact.measure(noisy.network(3.0)).rounds > 4 * latency.rounds


def test_outliers_are_counted(tmp_path):
    at = iter(range(10**6))
    machine = Machine(slowdown=lambda now: 20.0 if next(at) % 41 == 40 else 1.0)
    latency = machine.meter(tmp_path, reference=AnchorReference(2.0, "here")).measure(machine.network(3.0))
    assert 0 < latency.outliers <= 4


def test_every_image_is_run_even_if_time_is_short(tmp_path):
    machine = Machine()
    latency = machine.meter(tmp_path).measure(machine.network(100.0, images=30))
    assert latency.rounds == 90
    assert latency.worst_ms == pytest.approx(3000.0)


def test_networks_timed_jointly_keep_their_order(tmp_path):
    machine = Machine(slowdown=lambda now: 1.5 + np.sin(now * 7))
    meter = machine.meter(tmp_path)
    reference = meter.reference.anchor_ms
    latencies = meter.measure_jointly([machine.network(ms) for ms in (3.0, 1.0, 2.0)], seed=3)
    assert [latency.mean_ms for latency in latencies] == pytest.approx(
        [ms * reference / 2 for ms in (3.0, 1.0, 2.0)], rel=0.02
    )


def test_a_resumed_study_keeps_its_scale(tmp_path):
    machine = Machine()
    first = machine.meter(tmp_path)
    first.reference.save(tmp_path / "anchors.json")
    slower = Machine(slowdown=lambda now: 3.0)
    resumed = slower.meter(tmp_path, reference=AnchorReference.load(tmp_path / "anchors.json", TARGET))
    assert resumed.measure(slower.network(5.0)).latency_ms == pytest.approx(5.0)


def test_a_scale_of_another_environment_is_refused(tmp_path):
    AnchorReference(2.0, "elsewhere").save(tmp_path / "anchors.json")
    with pytest.raises(StudyError, match="measured in environment elsewhere"):
        AnchorReference.load(tmp_path / "anchors.json", TARGET)


def test_warming_up_goes_on_while_a_network_gets_faster(tmp_path):
    machine = Machine()
    meter = machine.meter(tmp_path)
    runs = []

    def run(image):
        runs.append(0)
        machine.now += max(1.0, 9.0 * 0.9 ** len(runs)) / 1e3
        return image

    latency = meter.measure(Workload(run, [IMAGE]))
    assert latency.repeats.worst_ms == pytest.approx(1.0, rel=0.1)


def test_the_garbage_collector_rests_while_timing(tmp_path):
    machine = Machine()
    seen = []
    meter = machine.meter(tmp_path)
    inner = machine.network(1.0)

    def run(image):
        seen.append(gc.isenabled())
        return inner.runner(image)

    meter.measure(Workload(run, [IMAGE]))
    assert not any(seen)
    assert gc.isenabled()


def test_what_fails_while_timed_leaves_the_meter_usable(tmp_path):
    machine = Machine()
    meter = machine.meter(tmp_path)

    def run(image):
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        meter.measure(Workload(run, [IMAGE]))
    assert gc.isenabled()
    assert meter.measure(machine.network(3.0)).latency_ms == pytest.approx(3.0)


def test_the_environment_is_named(tmp_path):
    machine = Machine()
    latency = machine.meter(tmp_path).measure(machine.network(1.0))
    assert latency.environment == environment_fingerprint(TARGET)["digest"]
