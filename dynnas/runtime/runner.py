"""What every runtime offers, and how a target names one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from dynnas.errors import TargetError
from dynnas.ops import Network
from dynnas.runtime.onnx_graph import to_onnx, to_packed_onnx
from dynnas.runtime.onnx_runtime import OnnxRunner
from dynnas.runtime.torch_cuda import CudaRunner
from dynnas.runtime.torch_eager import EagerRunner
from dynnas.space.settings import TargetSettings


class Runner(Protocol):
    """A network made ready on its target: the thing that ships, called as it will be called."""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """One image (1, channels, resolution, resolution) float32 in host memory to logits (1, classes).

        Work is finished when it returns. A network with exits stops at the first confident one.
        """
        ...


def resolve_runtime(target: TargetSettings) -> str:
    """The runtime, `onnxruntime`, `onnxruntime_portable` or `torch`, that `target` asks for.

    Raises:
        TargetError: the device is missing, or the runtime does not serve it.
    """
    if target.device == "cuda":
        if target.runtime.startswith("onnxruntime"):
            raise TargetError(
                f"target: runtime {target.runtime} serves the device cpu, not cuda; use runtime torch or auto"
            )
        if not torch.cuda.is_available():
            raise TargetError(
                "target: torch sees no CUDA device here; use device cpu, or install a CUDA build of torch"
            )
    if target.runtime == "auto":
        return "torch" if target.device == "cuda" else "onnxruntime"
    return target.runtime


def build_runner(network: Network, target: TargetSettings) -> Runner:
    """Fold and compile a copy of `network` for `target`; batch norm must be calibrated.

    Raises:
        TargetError: as `resolve_runtime`.
        MissingExtraError: the runtime is not installed.
    """
    runtime = resolve_runtime(target)
    if runtime == "onnxruntime":
        return OnnxRunner(to_packed_onnx(network).SerializeToString(), target.threads)
    if runtime == "onnxruntime_portable":
        return OnnxRunner(to_onnx(network).SerializeToString(), target.threads)
    if target.device == "cuda":
        return CudaRunner(network)
    return EagerRunner(network, target.threads)
