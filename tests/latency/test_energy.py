"""Energy from a made-up tree of counters: their sum, their turns, and why there is none."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from dynnas.latency.energy import Energy, NoEnergyError, energy_counter, measure_energy
from dynnas.latency.rounds import Workload

RANGE = 262_143_328_850


def zone(folder, name, energy_uj, label):
    place = folder / name
    place.mkdir()
    (place / "name").write_text(f"{label}\n")
    (place / "energy_uj").write_text(f"{energy_uj}\n")
    (place / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return place / "energy_uj"


class Machine:
    """A clock, and a counter that a run moves on by some microjoules."""

    def __init__(self, counter, each_uj):
        self.counter, self.each_uj, self.now = counter, each_uj, 0.0

    def clock(self):
        return self.now

    def run(self, image):
        self.now += 0.01
        self.counter.write_text(str((int(self.counter.read_text()) + self.each_uj) % (RANGE + 1)))
        return image


@pytest.mark.parametrize("start", [0, RANGE - 5_000_000])
def test_the_energy_of_a_call_also_when_the_counter_goes_round(tmp_path, start):
    machine = Machine(zone(tmp_path, "intel-rapl:0", start, "package-0"), 40_000)
    zone(tmp_path, "intel-rapl:0:0", 7, "core")
    zone(tmp_path, "intel-rapl:1", 12, "package-1")
    zone(tmp_path, "intel-rapl:2", 12, "psys")
    workload = Workload(machine.run, [np.zeros(1)])
    energy = measure_energy(workload, 2.0, counter=energy_counter(folder=tmp_path), clock=machine.clock)
    assert energy == Energy(pytest.approx(40.0))


def test_several_turns_are_counted_because_it_is_read_often(tmp_path):
    machine = Machine(zone(tmp_path, "intel-rapl:0", 0, "package-0"), RANGE // 150)
    workload = Workload(machine.run, [np.zeros(1)])
    energy = measure_energy(workload, 9.0, counter=energy_counter(folder=tmp_path), clock=machine.clock)
    assert energy.energy_mj == pytest.approx(RANGE // 150 / 1e3)


def test_packages_are_added(tmp_path):
    counters = [zone(tmp_path, f"intel-rapl:{at}", 0, f"package-{at}") for at in range(2)]
    counter = energy_counter(folder=tmp_path)
    for path in counters:
        path.write_text("3000")
    assert counter() == 6.0


def test_a_machine_without_counters_says_so(tmp_path):
    workload = Workload(lambda image: image, [np.zeros(1)])
    with pytest.raises(NoEnergyError, match="shows no energy counter of a processor in"):
        energy_counter(folder=tmp_path)
    energy = measure_energy(workload, 0.0, "cuda")
    if "pynvml" not in sys.modules:
        assert energy == Energy(None, "energy of a graphics card needs the package nvidia-ml-py")


def test_a_counter_that_may_not_be_read_says_who_may(tmp_path, monkeypatch):
    path = zone(tmp_path, "intel-rapl:0", 0, "package-0")
    real = type(path).read_text

    def read_text(self, *arguments):
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, *arguments)

    monkeypatch.setattr(type(path), "read_text", read_text)
    with pytest.raises(NoEnergyError, match=r"energy_uj may not be read; as root: chmod a\+r"):
        energy_counter(folder=tmp_path)


def test_a_graphics_card_counts_itself(monkeypatch):
    used = iter((5000, 5600))
    nvml = SimpleNamespace(
        NVMLError=RuntimeError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: next(used),
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr("dynnas.latency.energy.find_spec", lambda name: name)
    assert energy_counter("cuda")() == 600.0
