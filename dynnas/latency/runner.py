"""Runners of networks on any target, on this machine or on a remote device."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from dynnas.latency.remote.network import RemoteNetwork
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.compile import compile_network, load_artifact
from dynnas.runtimes.runtime import Runner
from dynnas.settings.settings import TargetSettings


def build_runner(network: nn.Module, target: TargetSettings, shape: Sequence[int] | None = None) -> Runner:
    """Compile a copy of `network` for `target` and load it; batch norm must be calibrated.

    For a remote device it is a `RemoteNetwork`, whose artifact runs there when it is timed.

    Args:
        network: a staged network, a cascade, or any other module.
        target: where it will run.
        shape: (channels, height, width) of an image; a staged network and a cascade say it themselves.

    Raises:
        TargetError: the device is missing, the runtime does not serve it in this type, or a cascade cannot be
            run so.
        MissingExtraError: the runtime is not installed.
    """
    return load_runner(network, compile_network(network, target, shape), target)


def load_runner(network: nn.Module, artifact: Artifact, target: TargetSettings) -> Runner:
    """Make the `artifact` of `network` ready to run on `target`.

    Raises:
        TargetError: the runtime is not known here, or cannot run it.
        MissingExtraError: the runtime is not installed.
    """
    if target.remote:
        return RemoteNetwork(network, artifact)
    return load_artifact(artifact, target.threads)
