"""Energy and memory of the networks of a front, whatever the runtime."""

import sys

import pytest
from support.networks import config, finished, images

from dynnas.latency.energy import Energy
from dynnas.latency.resources import call_energies, peak_memories_mib
from dynnas.latency.rounds import Workload
from dynnas.settings.settings import TargetSettings


def test_energies_are_numbers_or_reasons():
    runs = []
    workloads = [Workload(runs.append, [image]) for image in images(2)[:, None].numpy()]
    found = call_energies(workloads, TargetSettings(), 0.0)
    assert [isinstance(energy, Energy) for energy in found] == [True, True]
    assert all((energy.energy_mj is None) == bool(energy.reason) for energy in found)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak memory")
@pytest.mark.parametrize("runtime", ["onnxruntime", pytest.param("torch", marks=pytest.mark.slow)])
def test_memory_is_more_where_there_are_more_weights(runtime):
    networks = [finished(config("basic", width=width)) for width in (1, 40)]
    target = TargetSettings(runtime=runtime)
    small, large = peak_memories_mib(networks, [images().numpy()] * 2, target)
    weights = sum(parameter.nbytes for parameter in networks[1].parameters()) / 2**20
    assert large - small > 0.8 * weights
