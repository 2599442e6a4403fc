"""The energy of a call, where the machine counts it: RAPL on processors, NVML on graphics cards.

The counters are those of the whole processor package or card, whatever else runs there, idle power included.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from dynnas.errors import DynnasError
from dynnas.latency.rounds import Clock, Workload

POWERCAP = Path("/sys/class/powercap")

READ_EVERY_SECONDS = 1.0
"""Seconds between readings: a counter of a busy server overflows in about a minute, and no overflow may be
missed.
"""

LEAST_CALLS = 20


class NoEnergyError(DynnasError):
    """Raised when the machine does not report its energy."""


@dataclass(frozen=True)
class Energy:
    """Millijoules of a call, its share of the whole package's energy by the counter; None for a `reason`."""

    energy_mj: float | None
    reason: str = ""


Counter = Callable[[], float]
"""A function that returns millijoules since it was made."""


def measure_energy(
    workload: Workload,
    seconds: float,
    device: str = "cpu",
    counter: Counter | None = None,
    clock: Clock = time.perf_counter,
) -> Energy:
    """Run a network's images repeatedly for `seconds`, or for `LEAST_CALLS`, and read the counter.

    Args:
        workload: what to run. device: `cpu` or `cuda`. counter: the device's, if not given.
    """
    try:
        counter = counter or energy_counter(device)
        images = itertools.cycle(workload.images)
        workload.runner(next(images))
        before, start, calls = counter(), clock(), 0
        look_again = start + READ_EVERY_SECONDS
        while calls < LEAST_CALLS or clock() < start + seconds:
            workload.runner(next(images))
            calls += 1
            if clock() > look_again:
                counter()
                look_again = clock() + READ_EVERY_SECONDS
        return Energy((counter() - before) / calls)
    except NoEnergyError as error:
        return Energy(None, str(error))


def energy_counter(device: str = "cpu", folder: Path = POWERCAP) -> Counter:
    """Return the counter of a device; `folder` is where the system shows those of processors.

    Raises:
        NoEnergyError: there is none that may be read; says why.
    """
    return _nvml() if device == "cuda" else _Rapl(folder)


class _Rapl:
    """The sum over all processor packages of the energy used since it was made."""

    def __init__(self, folder: Path) -> None:
        # A package is intel-rapl:0, also on processors of AMD; its parts are intel-rapl:0:1 and so on.
        zones = [path for path in sorted(folder.glob("intel-rapl:*")) if path.name.count(":") == 1]
        packages = [zone for zone in zones if _text(zone / "name").startswith("package")]
        if not packages:
            raise NoEnergyError(f"this system shows no energy counter of a processor in {folder}")
        self._range = {zone: int(_text(zone / "max_energy_range_uj")) for zone in packages}
        self._last = {zone: int(_text(zone / "energy_uj")) for zone in packages}
        self._used_uj = 0

    def __call__(self) -> float:
        for zone, last in self._last.items():
            now = int(_text(zone / "energy_uj"))
            # It counts up to and including its range, then goes on from 0.
            self._used_uj += now - last if now >= last else now - last + self._range[zone] + 1
            self._last[zone] = now
        return self._used_uj / 1e3


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except PermissionError as error:
        raise NoEnergyError(
            f"{path} may not be read; as root: chmod a+r {path.parent}/energy_uj, or run dynnas as root"
        ) from error
    except OSError as error:
        raise NoEnergyError(f"{path} cannot be read: {error.strerror}") from error


def _nvml() -> Counter:
    if not find_spec("pynvml"):
        raise NoEnergyError("energy of a graphics card needs the package nvidia-ml-py")
    nvml = import_module("pynvml")
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByIndex(0)
        start = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError as error:
        raise NoEnergyError(f"the graphics card does not tell its energy: {error}") from error
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start)
