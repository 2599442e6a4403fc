"""An Android device over adb: ONNX Runtime's own benchmark program is run there, so it needs no Python.

The program is `onnxruntime_perf_test`, built for Android from ONNX Runtime's sources and pushed to the device
by its owner; its path ends the address. It times a graph on a stored input and prints the percentiles of its
runs. In every round it runs once for each network and each anchor, in shuffled order, and the median of
`RUNS` calls counts. It does not print what a network answers, so that answers are not checked there.
"""

from __future__ import annotations

import hashlib
import math
import random
import re
import shlex
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from dynnas.errors import TargetError, require
from dynnas.latency.energy import Energy
from dynnas.latency.lock import device_lock
from dynnas.latency.remote.network import RemoteNetwork
from dynnas.latency.rounds import Clock, TimingPlan, Workload
from dynnas.latency.throttling import ClockState
from dynnas.runtimes.onnx.placement import Placement
from dynnas.settings.settings import TargetSettings

ADB = re.compile(r"adb://((?:[\w.:][\w.:-]*)?)(/[\w./+-]+)")
"""The form of an address: serial number, and the path of the program there; no serial for the only device."""

PROVIDERS: Mapping[str, str] = {
    "onnxruntime_portable": "cpu",
    "onnxruntime_xnnpack": "xnnpack",
    "onnxruntime_nnapi": "nnapi",
    "onnxruntime_qnn": "qnn",
}
"""The program's word for the execution provider of each runtime that it can time."""

RUNS = 20
"""Calls of a network in a round."""

LEAST_ROUNDS = 10
BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds before each new attempt while the device is not there."""

CLOCKS = (
    "/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq",
    "/sys/class/thermal/thermal_zone*/temp",
)
"""The files of clocks and temperatures, as far as Android lets a shell read them."""

SHELL_SECONDS = 600.0
MOST_SECONDS = 3600.0
MEDIAN = re.compile(r"^P50 Latency: ([0-9.eE+-]+) s\s*$", re.MULTILINE)
GONE = re.compile(r"not found|offline|no devices|closed|unauthorized|device still", re.IGNORECASE)
PROPERTIES = ("ro.product.model", "ro.soc.model", "ro.build.version.release", "ro.product.cpu.abi")


class AdbDevice:
    """A device that `adb` reaches.

    Args:
        address: `adb://SERIAL/path/of/onnxruntime_perf_test`.
        sleep: waits for a number of seconds.

    Attributes:
        serial: of the device; empty for the only one.
        program: the path of the program there. folder: beside it, for what is sent.

    Raises:
        TargetError: the address is none.
    """

    def __init__(self, address: str, sleep: Callable[[float], None] = time.sleep) -> None:
        found = ADB.fullmatch(address)
        if found is None:
            raise TargetError(
                f"target: device {address}: allowed is adb://SERIAL/path/of/onnxruntime_perf_test"
            )
        self.address, self._sleep = address, sleep
        self.serial, self.program = found.groups()
        self.folder = str(PurePosixPath(self.program).parent / "dynnas")

    def shell(self, command: str) -> str:
        """Return what a command printed there.

        Raises:
            TargetError: the device is not there, or the command failed; says what was printed.
        """
        return self._run("shell", command)

    def push(self, here: Path, there: str) -> None:
        """Copy a file or folder to the device.

        Raises:
            TargetError: as `shell`.
        """
        self._run("push", str(here), there)

    def environment(self, target: TargetSettings) -> dict[str, str]:
        """Return the environment of times there: model, processor, system and the program's digest.

        Raises:
            TargetError: the device is not there, or has no such program.
        """
        asked = "; ".join(f"getprop {name}" for name in PROPERTIES)
        told = self.shell(f"sha256sum {shlex.quote(self.program)} && nproc && {{ {asked}; }}").splitlines()
        if len(told) < 2 + len(PROPERTIES):
            raise TargetError(f"target: device {self.address} was asked what it is, and answered {told}")
        digest, cores, (model, chip, release, kind) = told[0][:12], told[1], told[2 : 2 + len(PROPERTIES)]
        return {
            "device": "cpu",
            "processor": f"{model} {chip}".strip(),
            "cores": cores,
            "threads": str(target.threads),
            "dtype": target.dtype,
            "batch": str(target.batch),
            "runtime": f"{target.runtime}, onnxruntime_perf_test {digest}",
            "system": f"Android {release} {kind}",
        }

    def _run(self, *words: str) -> str:
        command = ["adb", *(["-s", self.serial] if self.serial else []), *words]
        for delay in (*BACKOFF, None):
            try:
                ran = subprocess.run(
                    command, capture_output=True, text=True, errors="replace", timeout=SHELL_SECONDS
                )
            except FileNotFoundError as error:
                raise TargetError(
                    f"target: device {self.address}: no adb is installed here; "
                    "install Android's platform tools"
                ) from error
            except subprocess.TimeoutExpired as error:
                raise TargetError(
                    f"target: device {self.address} has not answered for {SHELL_SECONDS:g} seconds"
                ) from error
            if ran.returncode == 0:
                return ran.stdout
            said = (ran.stderr or ran.stdout).strip()
            gone = ran.stderr.startswith(("adb: ", "error: ")) and GONE.search(ran.stderr)
            if not gone or delay is None:
                advice = "see `adb devices`" if gone else f"tried: {shlex.join(command)[:300]}"
                raise TargetError(f"target: device {self.address}: {said[-500:]}; {advice}")
            self._sleep(delay)
        raise AssertionError("the last attempt ends the loop")


def adb_target(target: TargetSettings) -> TargetSettings:
    """Return the target with the runtime that `auto` means on a device over adb.

    Raises:
        TargetError: the program does not time this runtime.
    """
    runtime = "onnxruntime_portable" if target.runtime == "auto" else target.runtime
    if runtime not in PROVIDERS or target.dtype != "float32":
        raise TargetError(
            f"target: device {target.device} is timed by onnxruntime_perf_test, not with runtime {runtime} "
            f"in {target.dtype}; use {', '.join(PROVIDERS)} in float32"
        )
    return TargetSettings(**{**vars(target), "runtime": runtime})


class AdbTimer:
    """Times in rounds on a device over adb; the runners of its workloads are `RemoteNetwork`s.

    Args:
        target: with a runtime of `PROVIDERS`.
        clock: seconds, monotonic.
    """

    def __init__(
        self, target: TargetSettings, device: AdbDevice | None = None, clock: Clock = time.monotonic
    ) -> None:
        self._target, self._device, self._clock = target, device or AdbDevice(target.device), clock
        self._there: set[str] = set()

    def __call__(
        self, workloads: Sequence[Workload], anchors: Sequence[Workload], plan: TimingPlan
    ) -> np.ndarray:
        """Time in rounds, as `Timer` says; `plan.precision` ends nothing, for a round takes seconds.

        Raises:
            TargetError: the device was lost, or what the program prints is no time.
        """
        everyone = [*workloads, *anchors]
        shuffle = random.Random(plan.seed).shuffle
        least = max(LEAST_ROUNDS, 2 * max(len(workload.images) for workload in everyone))
        rounds: list[list[float]] = []
        with device_lock(f"adb-{self._device.serial.replace(':', '-')}"):
            folders = [self._send(workload) for workload in everyone]
            end = self._clock() + plan.seconds
            while len(rounds) < least or self._clock() < end:
                order = list(range(len(everyone)))
                shuffle(order)
                times = [0.0] * len(everyone)
                for index in order:
                    image = len(rounds) % len(everyone[index].images)
                    times[index] = self._median_s(f"{folders[index]}/{image}/model.onnx")
                rounds.append(times)
            for folder in set(folders[: len(workloads)]) - set(folders[len(workloads) :]):
                self._device.shell(f"rm -r {shlex.quote(folder)}")
                self._there.discard(folder)
        return np.array(rounds).T * 1e3

    def energy(self, workloads: Sequence[Workload], seconds: float) -> list[Energy]:
        """Return no energies: the program does not tell."""
        return [Energy(None, "onnxruntime_perf_test does not measure energy") for _ in workloads]

    def peak_memory_mib(self, workloads: Sequence[Workload]) -> list[float]:
        """Refuse: the program tells only the memory of all of its process.

        Raises:
            TargetError: always.
        """
        raise TargetError("onnxruntime_perf_test does not tell the memory of a network")

    def placements(self, workloads: Sequence[Workload]) -> list[Placement | None]:
        """Return nothing of where nodes run: the program does not tell."""
        return [None for _ in workloads]

    def clock(self) -> ClockState:
        """Read the clock and the heat of its processor now, where Android lets a shell read them.

        Raises:
            TargetError: the device is not there.
        """
        told = self._device.shell(f"grep -H . {' '.join(CLOCKS)} 2>/dev/null; true")
        files = (
            re.findall(rf"/{name}:(-?\d{{1,9}})\s*$", told, re.MULTILINE)
            for name in ("scaling_cur_freq", "temp")
        )
        clocks, heats = ([int(number) for number in found] for found in files)
        return ClockState.of(clocks, heats)

    def close(self) -> None:
        """Do nothing: no connection stays open."""

    def _median_s(self, model: str) -> float:
        program = self._device.program
        words = [program, "-e", PROVIDERS[self._target.runtime], "-m", "times", "-r", str(RUNS)]
        words += ["-x", str(self._target.threads), "-y", "1", "-s", model]
        libraries = shlex.quote(str(PurePosixPath(program).parent))
        printed = self._device.shell(f"LD_LIBRARY_PATH={libraries} {shlex.join(words)}")
        found = MEDIAN.findall(printed)
        try:
            seconds = float(found[-1])
        except (IndexError, ValueError):
            seconds = math.nan
        if not 0 < seconds < MOST_SECONDS:
            raise TargetError(
                f"target: device {self._device.address}: {program} printed no median of its runs, but "
                f"{printed[-300:]!r}; use the one of ONNX Runtime"
            )
        return seconds

    def _send(self, workload: Workload) -> str:
        """Return the folder there of a network with each of its inputs, sent if it is not there."""
        helper = require("onnx.numpy_helper", "onnx")
        network = workload.runner
        assert isinstance(network, RemoteNetwork), "workloads for a device are built for its target"
        digest = hashlib.sha256(network.artifact.digest.encode())
        for image in workload.images:
            digest.update(image.tobytes())
        folder = f"{self._device.folder}/{digest.hexdigest()[:16]}"
        if folder in self._there:
            return folder
        with tempfile.TemporaryDirectory() as made:
            root = Path(made, PurePosixPath(folder).name)
            for number, image in enumerate(workload.images):
                data = root / str(number) / "test_data_set_0"
                data.mkdir(parents=True)
                (data / "input_0.pb").write_bytes(helper.from_array(image, "image").SerializeToString())
            (root / "model.onnx").write_bytes(network.artifact.data)
            self._device.shell(f"mkdir -p {shlex.quote(self._device.folder)}")
            self._device.push(root, self._device.folder)
        links = 'for each in */; do ln -sf ../model.onnx "$each"model.onnx; done'
        self._device.shell(f"cd {shlex.quote(folder)} && {links}")
        self._there.add(folder)
        return folder
