"""Every runtime by its name, and how a target names one."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dynnas.errors import TargetError
from dynnas.runtime.cascade import Cascade, Finished
from dynnas.runtime.onnx_runtime import ONNXRUNTIME, ONNXRUNTIME_PORTABLE
from dynnas.runtime.openvino_runtime import OPENVINO
from dynnas.runtime.remote import RemoteNetwork
from dynnas.runtime.runtime import Runner, Runtime
from dynnas.runtime.torch_compiled import TORCH_COMPILE
from dynnas.runtime.torch_eager import TORCH
from dynnas.space.settings import TargetSettings

RUNTIMES: Mapping[str, Runtime] = {
    runtime.name: runtime for runtime in (ONNXRUNTIME, ONNXRUNTIME_PORTABLE, OPENVINO, TORCH, TORCH_COMPILE)
}


def resolve_runtime(target: TargetSettings) -> str:
    """The name, in `RUNTIMES`, of the runtime that `target` asks for.

    Raises:
        TargetError: the device is missing, or the runtime does not serve it in this type.
    """
    if target.remote:
        if target.runtime == "auto":
            raise TargetError(
                f"target: which runtime the device {target.device} offers is only known to who asked it; "
                "name one, or take `target` of the study's meter"
            )
        return target.runtime
    default = "torch" if target.device == "cuda" else "onnxruntime"
    name = default if target.runtime == "auto" else target.runtime
    RUNTIMES[name].check(target.device, target.dtype)
    if target.device == "cuda" and not torch.cuda.is_available():
        raise TargetError(
            "target: torch sees no CUDA device here; use device cpu, or install a CUDA build of torch"
        )
    return name


def build_runner(network: Finished, target: TargetSettings) -> Runner:
    """Fold and compile a copy of `network` for `target`; batch norm must be calibrated.

    For a remote device it is a `RemoteNetwork`, which is run there when it is timed. A cascade is one graph
    that branches where the runtime takes graphs, and Python between the networks where it does not.

    Raises:
        TargetError: as `resolve_runtime`; or a cascade cannot be run so.
        MissingExtraError: the runtime is not installed.
    """
    runtime = resolve_runtime(target)
    if isinstance(network, Cascade) and target.batch > 1:
        raise TargetError(
            f"target: cascades decide image by image, and this target has {target.batch} images a call; "
            "use batch: 1"
        )
    if target.remote:
        return RemoteNetwork(network, runtime, target)
    return RUNTIMES[runtime].build(network, target)
