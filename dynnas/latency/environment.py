"""What a latency depends on beside the network, as far as the device itself can tell."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from dynnas.errors import require
from dynnas.files import processor

CPU_FOLDER = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Execution:
    """How networks run on a device; the fields are those of `TargetSettings`."""

    runtime: str
    threads: int
    dtype: str = "float32"
    batch: int = 1


@dataclass(frozen=True)
class Library:
    """The package that a runtime runs in, and the extra of dynnas that brings it.

    Attributes:
        note: says which graphs it is given, with a number to be raised when they become faster or slower.
    """

    package: str
    extra: str
    note: str = ""


LIBRARIES = {
    "onnxruntime": Library("onnxruntime", "onnx", ", packed graphs 2"),
    "onnxruntime_portable": Library("onnxruntime", "onnx"),
    "openvino": Library("openvino", "openvino"),
    "torch": Library("torch", "torch"),
    "torch_compile": Library("torch", "torch"),
}


def device_environment(execution: Execution, device: str = "cpu") -> dict[str, str]:
    """What times on `device` depend on here, without what only torch knows of a graphics card.

    Raises:
        MissingExtraError: the runtime is not installed.
    """
    library = LIBRARIES[execution.runtime]
    version = require(library.package, library.extra).__version__
    return {
        "device": device,
        "processor": processor(),
        "cores": str(os.cpu_count()),
        "clock": clock_policy(),
        "threads": str(execution.threads),
        "dtype": execution.dtype,
        "batch": str(execution.batch),
        "runtime": f"{execution.runtime} {version}{library.note}",
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{platform.system()} {platform.machine()}",
    }


def clock_policy(folder: Path = CPU_FOLDER) -> str:
    """The clock's governors, and whether it may exceed its rating; `unknown` if the system does not say."""
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
