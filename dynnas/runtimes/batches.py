"""Batches of a network with exits or gates: everything computed for every image, or only what each wants."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np
import torch
from torch import Tensor

from dynnas.errors import TargetError
from dynnas.nn.context import Context
from dynnas.nn.exits import leave
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import leave_one_after_another
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.layout import to_channels_last
from dynnas.runtimes.onnx.batches import CompactedOnnxRunner, MaskedOnnxRunner
from dynnas.runtimes.runner import resolve_runtime
from dynnas.settings.settings import TargetSettings
from dynnas.threads import use_threads

Execution = Literal["masked", "compacted"]
"""Masked: every image runs through all of the network, at the dense price. Compacted: images that leave are
taken out of the batch, and the rest goes on as a smaller one; gated blocks run images that want the same
together (in torch; ONNX Runtime computes all of these). The regrouping is part of the price."""


class BatchRunner(Protocol):
    """A network made ready on its target for batches of any size."""

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images (B, channels, R, R) float32 in host memory to logits (B, classes) and exits (B,) int64.

        The exit of an image is its index, the number of exits for the head. Work is finished when it returns.
        """
        ...


def build_batch_runner(network: Network, target: TargetSettings, execution: Execution) -> BatchRunner:
    """Fold and compile a copy of `network` for batches on `target`; batch norm must be calibrated.

    Raises:
        TargetError: as `resolve_runtime`, or batches of any size are not run there.
        MissingExtraError: the runtime is not installed.
    """
    runtime = resolve_runtime(target)
    if target.remote or runtime not in ("onnxruntime", "onnxruntime_portable", "torch"):
        raise TargetError(
            f"target: batches of any size are run on this machine in onnxruntime or torch, not on "
            f"{target.device} in {runtime}; use another target"
        )
    if runtime.startswith("onnxruntime"):
        runner = CompactedOnnxRunner if execution == "compacted" else MaskedOnnxRunner
        return runner(network, target.threads)
    return TorchBatchRunner(network, target, execution)


class TorchBatchRunner:
    """A folded network, channels-last, run eagerly: how many images stay is not known beforehand."""

    def __init__(self, network: Network, target: TargetSettings, execution: Execution) -> None:
        self._compacted = execution == "compacted"
        context = Context(GateMode("real" if self._compacted else "masked"))
        self._network = fold_batchnorm(network, context).to(target.device)
        to_channels_last(self._network)
        self._segments = self._network.segments()
        self._device, self._threads = target.device, target.threads

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = torch.from_numpy(images).to(self._device, memory_format=torch.channels_last)
        with use_threads(self._threads):
            logits, exits = self._run(x)
        return logits.cpu().numpy(), exits.cpu().numpy()

    def _run(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self._compacted:
            return leave_one_after_another(self._segments, x)
        return leave(self._network.logits(x), self._network.config.exits)
