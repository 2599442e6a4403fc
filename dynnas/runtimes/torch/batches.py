"""Batches of any size in torch: everything computed for every image, or only what each wants."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynnas.nn.context import Context
from dynnas.nn.exits.exits import leave
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import leave_one_after_another
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.layout import to_channels_last
from dynnas.runtimes.runtime import BatchExecution
from dynnas.settings.settings import TargetSettings
from dynnas.threads import use_threads


class TorchBatchRunner:
    """A folded network, channels-last, run eagerly: how many images stay is not known beforehand."""

    def __init__(self, network: Network, target: TargetSettings, execution: BatchExecution) -> None:
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
