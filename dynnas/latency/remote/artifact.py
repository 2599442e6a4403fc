"""Networks as they travel to a device, by the runtimes that can be there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib.util import find_spec

import numpy as np

from dynnas.errors import TargetError
from dynnas.latency.environment import LIBRARIES, Execution
from dynnas.runtimes.onnx.session import OnnxSession
from dynnas.runtimes.openvino.session import OpenVinoSession

TORCH_RUNTIMES = ("torch", "torch_compile")
"""Their artifacts are networks as `torch_network` writes them; those of the others are ONNX graphs."""


def offered_runtimes(device: str) -> list[str]:
    """The runtimes that are installed here, the one to prefer first."""
    names = TORCH_RUNTIMES if device == "cuda" else LIBRARIES
    return [name for name in names if find_spec(LIBRARIES[name].package) and _can_compile(name, device)]


def load_artifact(
    data: bytes, execution: Execution, device: str = "cpu"
) -> Callable[[np.ndarray], np.ndarray]:
    """Make an artifact ready to run.

    Args:
        data: an ONNX graph, or for `TORCH_RUNTIMES` what `torch_network.write_network` gave.

    Raises:
        TargetError: the runtime is not offered here, or does not serve the device so.
        Exception: the artifact is damaged; whatever the runtime says of that.
    """
    offered = offered_runtimes(device)
    if execution.runtime not in offered:
        raise TargetError(
            f"this device has no runtime {execution.runtime}; it offers {', '.join(offered) or 'none'}"
        )
    if execution.runtime in TORCH_RUNTIMES:
        from dynnas.latency.remote.torch_network import load_network

        return load_network(data, execution, device)
    if execution.runtime == "openvino":
        return OpenVinoSession(data, execution.threads, execution.dtype)
    if execution.dtype != "float32":
        raise TargetError(f"{execution.runtime} computes in float32, not in {execution.dtype}")
    return OnnxSession(data, execution.threads)


def _can_compile(runtime: str, device: str) -> bool:
    if runtime != "torch_compile" or device == "cuda":
        return True
    return any(shutil.which(name) for name in (os.environ.get("CXX", "c++"), "g++", "clang++"))
