"""Energy and memory of a network, here or on a remote device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from dynnas.errors import TargetError
from dynnas.latency.energy import Energy, measure_energy
from dynnas.latency.lock import device_lock
from dynnas.latency.remote.memory import peak_memory_mib
from dynnas.latency.remote.network import RemoteNetwork
from dynnas.latency.remote.timer import open_timer
from dynnas.latency.rounds import Workload
from dynnas.nn.networks.network import Network
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import compile_network
from dynnas.runtimes.onnx.placement import Placement
from dynnas.settings.settings import TargetSettings


@dataclass(frozen=True)
class Resources:
    """The energy and memory of a call; None where the machine does not report it, with the reason.

    Attributes:
        energy_mj: millijoules of a call, its share of what the whole package used.
        peak_memory_mib: that loading and running it adds to a process with its runtime.
    """

    energy_mj: float | None
    no_energy: str
    peak_memory_mib: float | None
    no_memory: str

    @property
    def metrics(self) -> dict[str, float]:
        """Return the metrics that are known, by name."""
        known = {"energy_mj": self.energy_mj, "peak_memory_mib": self.peak_memory_mib}
        return {name: value for name, value in known.items() if value is not None}


def measure_resources(
    networks: Sequence[Network],
    workloads: Sequence[Workload],
    target: TargetSettings,
    artifacts: Sequence[Artifact] | None = None,
) -> list[Resources]:
    """Measure energy and peak memory of networks, given by their workloads, and artifacts if there are any.

    Raises:
        TargetError: a remote device cannot be reached.
    """
    energies = call_energies(workloads, target)
    try:
        images = [workload.images[0] for workload in workloads]
        memories: Sequence[float | None] = peak_memories_mib(networks, images, target, artifacts)
        reason = ""
    except TargetError as error:
        memories, reason = [None] * len(networks), str(error)
    return [
        Resources(energy.energy_mj, energy.reason, memory, reason)
        for energy, memory in zip(energies, memories, strict=True)
    ]


def call_energies(
    workloads: Sequence[Workload], target: TargetSettings, seconds: float = 2.0
) -> list[Energy]:
    """Return the energy of a call of each network, as a mean over its images for `seconds`.

    Without a value, but with the reason, where the device does not tell.

    Args:
        workloads: built for `target`, as `LatencyMeter.target` names it.

    Raises:
        TargetError: a remote device cannot be reached.
    """
    if target.remote:
        with closing(open_timer(target)) as timer:
            return timer.energy(workloads, seconds)
    with device_lock(target.device):
        return [measure_energy(workload, seconds, target.device) for workload in workloads]


def placements(workloads: Sequence[Workload], target: TargetSettings) -> list[Placement | None]:
    """Return where the nodes of each network run; None for a runtime without execution providers.

    Args:
        workloads: built for `target`, as `LatencyMeter.target` names it.

    Raises:
        TargetError: a remote device cannot be reached.
    """
    if target.remote:
        with closing(open_timer(target)) as timer:
            return timer.placements(workloads)
    return [getattr(workload.runner, "placement", None) for workload in workloads]


def peak_memories_mib(
    networks: Sequence[Network],
    images: Sequence[np.ndarray],
    target: TargetSettings,
    artifacts: Sequence[Artifact] | None = None,
) -> list[float]:
    """Return MiB of resident memory that loading and running each network adds to a process with its runtime.

    Args:
        networks: calibrated. images: a call's for each, (batch, channels, R, R) float32.
        target: as `LatencyMeter.target` names it.
        artifacts: the networks compiled for `target`, if that was done.

    Raises:
        TargetError: a network cannot be run, the system does not tell (only Linux does), or a remote device
            cannot be reached.
    """
    artifacts = artifacts or [compile_network(network, target) for network in networks]
    if target.remote:
        with closing(open_timer(target)) as timer:
            runners = map(RemoteNetwork, networks, artifacts)
            workloads = [Workload(runner, [image]) for runner, image in zip(runners, images, strict=True)]
            return timer.peak_memory_mib(workloads)
    return [
        peak_memory_mib(artifact, image, target.threads)
        for artifact, image in zip(artifacts, images, strict=True)
    ]
