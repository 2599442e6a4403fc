"""Timing on a device elsewhere, where `dynnas serve` runs."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, replace

import numpy as np
import torch

from dynnas.errors import TargetError
from dynnas.latency.energy import Energy
from dynnas.latency.environment import RunConfig
from dynnas.latency.remote.adb import AdbDevice, AdbTimer, adb_target
from dynnas.latency.remote.blob_cache import digest_of
from dynnas.latency.remote.client import Device
from dynnas.latency.remote.network import RemoteNetwork
from dynnas.latency.remote.replies import Replies
from dynnas.latency.remote.token import VARIABLE, find_token, token_path
from dynnas.latency.rounds import TimingPlan, Workload
from dynnas.latency.runner import build_runner
from dynnas.latency.throttling import ClockState, clock_state
from dynnas.nn.config.choice import Choice
from dynnas.nn.config.network import BlockConfig, HeadConfig, NetworkConfig, StemConfig
from dynnas.nn.networks.network import Network
from dynnas.runtimes.document import write_document
from dynnas.runtimes.onnx.placement import Placement
from dynnas.runtimes.runtime import get_runtime
from dynnas.settings.settings import TargetSettings

PATIENCE_SECONDS = 900.0
"""Seconds beyond those that are planned: a slow device loads, warms up and runs every image, however long it
takes.

It is for a server that hangs; the system finds out by itself when a device is gone.
"""


def open_device(target: TargetSettings) -> Device:
    """Return the device of a remote target.

    Raises:
        TargetError: there is no token for it.
    """
    if target.device.startswith("ssh://"):
        return Device(target.device, b"")
    token = find_token()
    if token is None:
        raise TargetError(
            f"target: device {target.device}: no token; `dynnas serve` shows one there when it first starts: "
            f"put it into ${VARIABLE}, or into {token_path()} (chmod 600)"
        )
    return Device(target.device, token)


def resolve_target(target: TargetSettings) -> TargetSettings:
    """Return `target` with the runtime that `auto` means on its device, where that is another machine.

    Packed graphs are for processors like this machine's: a trial tells whether the device's is one.

    Raises:
        TargetError: the device cannot be reached, or does not offer the runtime.
    """
    if not target.remote:
        return target
    if over_adb(target):
        return adb_target(target)
    device = open_device(target)
    try:
        offered, _ = device.offers()
        if target.runtime not in ("auto", *offered):
            raise TargetError(
                f"target: device {target.device} has no runtime {target.runtime}; "
                f"it offers {', '.join(offered)}"
            )
        if target.runtime != "auto" or not offered:
            return target
        preferred = replace(target, runtime=offered[0])
        portable = get_runtime(preferred.runtime).portable
        if portable and not _understands(device, preferred):
            return replace(target, runtime=portable)
        return preferred
    finally:
        device.close()


def remote_environment(target: TargetSettings) -> dict[str, str]:
    """Return the environment of times on the device of a remote target.

    Raises:
        TargetError: the device cannot be reached, or cannot run so.
    """
    if over_adb(target):
        return AdbDevice(target.device).environment(target)
    device = open_device(target)
    try:
        header, _ = device.ask({"ask": "environment", **asdict(_run_config(target))})
        return Replies(target.device).environment(header)
    finally:
        device.close()


def over_adb(target: TargetSettings) -> bool:
    """Return whether the device is an Android one over adb."""
    return target.device.startswith("adb://")


def open_timer(target: TargetSettings) -> RemoteTimer | AdbTimer:
    """Return the timer of a remote target.

    Raises:
        TargetError: there is no token for the device.
    """
    return AdbTimer(target) if over_adb(target) else RemoteTimer(target)


def clock_of(target: TargetSettings) -> ClockState:
    """Return the clock and the heat of the processor of a target now: of this machine, or of its device.

    Raises:
        TargetError: a device cannot be reached.
    """
    if not target.remote:
        return clock_state()
    with closing(open_timer(target)) as timer:
        return timer.clock()


class RemoteTimer:
    """Times in rounds on the device of a remote target; the runners of its workloads are `RemoteNetwork`s.

    Raises:
        TargetError: there is no token for the device.
    """

    def __init__(self, target: TargetSettings, device: Device | None = None) -> None:
        self._target, self._device = target, device or open_device(target)

    def __call__(
        self, workloads: Sequence[Workload], anchors: Sequence[Workload], plan: TimingPlan
    ) -> np.ndarray:
        """Time in rounds, as `Timer` says.

        Raises:
            TargetError: the device was lost, or what it answers is nonsense.
        """
        parts: dict[str, bytes] = {}
        header = {
            "ask": "time",
            **asdict(_run_config(self._target)),
            "workloads": [_described(workload, parts) for workload in workloads],
            "anchors": [_described(workload, parts) for workload in anchors],
            **asdict(plan),
        }
        _, arrays = self._device.ask_with(header, parts, PATIENCE_SECONDS + 2 * plan.seconds)
        everyone = [*workloads, *anchors]
        for at, workload in enumerate(everyone):
            self._check(workload, arrays.get(f"answer.{at}"))
        return Replies(self._device.address).times(arrays, len(everyone))

    def energy(self, workloads: Sequence[Workload], seconds: float) -> list[Energy]:
        """Measure energy there, as `measure_energy` does here."""
        parts: dict[str, bytes] = {}
        described = [_described(workload, parts) for workload in workloads]
        header = {
            "ask": "energy",
            **asdict(_run_config(self._target)),
            "workloads": described,
            "seconds": seconds,
        }
        patience = PATIENCE_SECONDS + 2 * seconds * len(workloads)
        reply, _ = self._device.ask_with(header, parts, patience)
        return Replies(self._device.address).energies(reply, len(workloads))

    def peak_memory_mib(self, workloads: Sequence[Workload]) -> list[float]:
        """Measure peak memory there, as `dynnas.latency.remote.memory.peak_memory_mib` does here."""
        parts: dict[str, bytes] = {}
        described = [_described(workload, parts) for workload in workloads]
        header = {"ask": "memory", **asdict(_run_config(self._target)), "workloads": described}
        reply, _ = self._device.ask_with(header, parts, PATIENCE_SECONDS)
        return Replies(self._device.address).memory_mib(reply, len(workloads))

    def placements(self, workloads: Sequence[Workload]) -> list[Placement | None]:
        """Ask where the nodes of each network run there: see `dynnas.runtimes.onnx.placement`."""
        parts: dict[str, bytes] = {}
        described = [_described(workload, parts) for workload in workloads]
        header = {"ask": "placement", **asdict(_run_config(self._target)), "workloads": described}
        reply, _ = self._device.ask_with(header, parts, PATIENCE_SECONDS)
        return Replies(self._device.address).placements(reply, len(workloads))

    def clock(self) -> ClockState:
        """Ask for the clock and the heat of its processor now.

        Raises:
            TargetError: the device was lost, or what it answers is nonsense.
        """
        header, _ = self._device.ask({"ask": "clock"})
        return Replies(self._device.address).clock(header)

    def close(self) -> None:
        """Hang up; it connects again when it is used."""
        self._device.close()

    def _check(self, workload: Workload, answer: np.ndarray | None) -> None:
        network = _network(workload)
        if answer is not None and network.matches(answer, workload.images[0]):
            return
        portable = get_runtime(self._target.runtime).portable
        advice = (
            "its graph is packed for processors like this machine's, and the device has another: "
            f"use runtime: {portable}"
            if portable
            else "use another runtime there"
        )
        raise TargetError(
            f"target: what device {self._device.address} answers is not what the network says; {advice}"
        )


def _understands(device: Device, target: TargetSettings) -> bool:
    """Return whether a packed network gives right answers on the device."""
    try:
        RemoteTimer(target, device)((), [_probe(target)], TimingPlan(seconds=0.0))
    except TargetError:
        device.offers()  # raises again if it is the device that is gone
        return False
    return True


def _probe(target: TargetSettings) -> Workload:
    """Return a network whose kernels are mixed, so that its graph is packed."""
    block = BlockConfig(Choice("conv"), 32, 32, 1, 3, Choice.of("condconv", experts=2))
    stem, head = StemConfig(3, 32, 3, 1, "relu"), HeadConfig(32, 0, "relu", 0.0, 10)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Network(NetworkConfig(3, 10, 8, stem, (("stage1.0", block),), (), head)).eval()
    image = np.random.default_rng(0).normal(size=(target.batch, 3, 8, 8)).astype(np.float32)
    return Workload(build_runner(network, target), [image])


def _run_config(target: TargetSettings) -> RunConfig:
    return RunConfig(target.runtime, target.threads, target.dtype, target.batch)


def _network(workload: Workload) -> RemoteNetwork:
    assert isinstance(workload.runner, RemoteNetwork), (
        "workloads for a remote device are built for its target"
    )
    return workload.runner


def _described(workload: Workload, parts: dict[str, bytes]) -> list[str]:
    """Return the digests of a workload's artifact and images, and add these to `parts`."""
    network = _network(workload)
    images = write_document({}, {"images": np.stack(list(workload.images))})
    parts[network.artifact.digest] = network.artifact.to_bytes()
    parts[digest_of(images)] = images
    return [network.artifact.digest, digest_of(images)]
