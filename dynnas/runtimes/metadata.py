"""The metadata of every artifact, whatever its runtime."""

from __future__ import annotations

from dynnas.runtimes.plain import Compilable
from dynnas.settings.settings import TargetSettings


def describe(network: Compilable, target: TargetSettings) -> dict[str, str]:
    """Return the metadata of an artifact of `network` for `target`: see `Artifact.metadata`."""
    return {
        "device": "cpu" if target.remote else target.device,
        "dtype": target.dtype,
        "batch": str(target.batch),
        "shape": " ".join(map(str, network.config.shape)),
    }
