"""Every runtime by its name, and how a target names one."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dynnas.errors import TargetError
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.runtimes.onnx.runtime import ONNXRUNTIME, ONNXRUNTIME_PORTABLE
from dynnas.runtimes.openvino.runtime import OPENVINO
from dynnas.runtimes.runtime import Runner, Runtime
from dynnas.runtimes.torch.compiled import TORCH_COMPILE
from dynnas.runtimes.torch.eager import TORCH
from dynnas.settings.settings import TargetSettings

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


def build_local_runner(network: Finished, target: TargetSettings) -> Runner:
    """Fold and compile a copy of `network` for a device of this machine; batch norm must be calibrated.

    A cascade is one graph that branches where the runtime takes graphs, and Python between the networks where
    it does not.

    Raises:
        TargetError: as `resolve_runtime`; or a cascade cannot be run so.
        MissingExtraError: the runtime is not installed.
    """
    runtime = resolve_runtime(target)
    check_cascade(network, target)
    return RUNTIMES[runtime].build(network, target)


def check_cascade(network: Finished, target: TargetSettings) -> None:
    """Refuse a cascade on a target that runs several images a call.

    Raises:
        TargetError: it is refused.
    """
    if isinstance(network, Cascade) and target.batch > 1:
        raise TargetError(
            f"target: cascades decide image by image, and this target has {target.batch} images a call; "
            "use batch: 1"
        )
