"""What a latency depends on beside the network; times of different environments do not compare."""

from __future__ import annotations

import hashlib
import json

import torch

from dynnas.device.environment import Execution, device_environment
from dynnas.runtime import resolve_runtime
from dynnas.runtime.torch_cuda import gpu_name
from dynnas.space.settings import TargetSettings


def environment_fingerprint(target: TargetSettings) -> dict[str, str]:
    """What times for `target` depend on here; under `digest` twelve hexadecimal digits that name all of it.

    Raises:
        TargetError: the target cannot be used on this machine.
        MissingExtraError: the runtime is not installed.
    """
    execution = Execution(resolve_runtime(target), target.threads, target.dtype, target.batch)
    fingerprint = device_environment(execution, target.device)
    if target.device == "cuda":
        fingerprint["processor"] = gpu_name()
    # Also where another runtime runs the network: it is torch that exports it.
    fingerprint["torch"] = str(torch.__version__)
    canonical = json.dumps(fingerprint, sort_keys=True)
    return fingerprint | {"digest": hashlib.sha256(canonical.encode()).hexdigest()[:12]}
