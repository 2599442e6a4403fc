"""The environment of a latency: all that it depends on beside the network, as the device itself knows it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dynnas.files import processor
from dynnas.runtimes.runtime import get_runtime

CPU_FOLDER = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class RunConfig:
    """The way networks run on a device; the fields are those of `TargetSettings`."""

    runtime: str
    threads: int
    dtype: str = "float32"
    batch: int = 1


def device_environment(config: RunConfig, device: str = "cpu") -> dict[str, str]:
    """Return the environment of times on `device` here, without what only torch knows of a graphics card.

    Raises:
        MissingExtraError: the runtime is not installed.
    """
    return {
        "device": device,
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "clock": clock_policy(),
        "threads": str(config.threads),
        "dtype": config.dtype,
        "batch": str(config.batch),
        "runtime": get_runtime(config.runtime).version(),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{platform.system()} {platform.machine()}",
    }


def clock_policy(folder: Path = CPU_FOLDER) -> str:
    """Return the clock's governors, and whether it may exceed its rating.

    Both are `unknown` if the system does not say.
    """
    governors = {_read(path) for path in sorted(folder.glob("cpu[0-9]*/cpufreq/scaling_governor"))}
    boost = _read(folder / "cpufreq" / "boost")
    if not boost and (no_turbo := _read(folder / "intel_pstate" / "no_turbo")):
        boost = str(1 - int(no_turbo))
    parts = sorted(governors - {""})
    if boost:
        parts.append("boost off" if boost == "0" else "boost on")
    return ", ".join(parts) or "unknown"


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
