"""The fingerprint of a latency's environment; times of different environments do not compare."""

from __future__ import annotations

import hashlib
import json

import torch

from dynnas.latency.environment import RunConfig, device_environment
from dynnas.latency.remote.timer import remote_environment, resolve_target
from dynnas.runtimes.compile import resolve_runtime
from dynnas.runtimes.torch.cuda import gpu_name
from dynnas.settings.settings import TargetSettings


def environment_fingerprint(target: TargetSettings) -> dict[str, str]:
    """Return the environment of times for `target`.

    Its `digest` is twelve hexadecimal digits that name all of it.

    It is the device that tells, also where it is another machine.

    Raises:
        TargetError: the target cannot be used on this machine, or its device not be reached.
        MissingExtraError: the runtime is not installed.
    """
    fingerprint = remote_environment(resolve_target(target)) if target.remote else _here(target)
    # Also where another runtime runs the network: it is torch that exports it.
    fingerprint["torch"] = str(torch.__version__)
    canonical = json.dumps(fingerprint, sort_keys=True)
    return fingerprint | {"digest": hashlib.sha256(canonical.encode()).hexdigest()[:12]}


def _here(target: TargetSettings) -> dict[str, str]:
    config = RunConfig(resolve_runtime(target), target.threads, target.dtype, target.batch)
    environment = device_environment(config, target.device)
    return environment | ({"processor": gpu_name()} if target.device == "cuda" else {})
