"""What a latency depends on beside the network; times of different environments do not compare."""

from __future__ import annotations

import hashlib
import json
import os
import platform

import torch

from dynnas.errors import require
from dynnas.machine import processor
from dynnas.runtime import resolve_runtime
from dynnas.space.settings import TargetSettings


def environment_fingerprint(target: TargetSettings) -> dict[str, str]:
    """What times for `target` depend on here; under `digest` twelve hexadecimal digits that name all of it.

    Raises:
        TargetError: the target cannot be used on this machine.
        MissingExtraError: the runtime is not installed.
    """
    fingerprint = {
        "device": target.device,
        "processor": _gpu() if target.device == "cuda" else processor(),
        "cores": str(os.cpu_count()),
        "threads": str(target.threads),
        "runtime": _runtime(resolve_runtime(target)),
        "torch": str(torch.__version__),
        "python": ".".join(platform.python_version_tuple()[:2]),
        "system": f"{platform.system()} {platform.machine()}",
    }
    canonical = json.dumps(fingerprint, sort_keys=True)
    return fingerprint | {"digest": hashlib.sha256(canonical.encode()).hexdigest()[:12]}


def _runtime(name: str) -> str:
    version = require(name.removesuffix("_portable"), "onnx").__version__
    return f"{name} {version}" + (", packed graphs" if name == "onnxruntime" else "")


def _gpu() -> str:
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
