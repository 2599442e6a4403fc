"""Runners of networks on any target, on this machine or on a remote device."""

from __future__ import annotations

from dynnas.latency.remote.network import RemoteNetwork
from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.runner import build_local_runner, check_cascade, resolve_runtime
from dynnas.runtimes.runtime import Runner
from dynnas.settings.settings import TargetSettings


def build_runner(network: Finished, target: TargetSettings) -> Runner:
    """Fold and compile a copy of `network` for `target`; batch norm must be calibrated.

    For a remote device it is a `RemoteNetwork`, which runs there when it is timed; else it is as
    `dynnas.runtimes.runner.build_local_runner` makes it.

    Raises:
        TargetError: the device is missing, the runtime does not serve it in this type, or a cascade cannot be
            run so.
        MissingExtraError: the runtime is not installed.
    """
    if not target.remote:
        return build_local_runner(network, target)
    check_cascade(network, target)
    return RemoteNetwork(network, resolve_runtime(target), target)
