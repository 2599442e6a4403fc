"""Plain torch: eagerly on a CPU, with CUDA graphs on CUDA."""

from __future__ import annotations

import numpy as np
import torch

from dynnas.nn.networks.network import Network
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.plain import Compilable, PlainNetwork
from dynnas.runtimes.runtime import Runner
from dynnas.runtimes.torch.chain import ChainRunner
from dynnas.runtimes.torch.cuda import CudaRunner
from dynnas.runtimes.torch.parts import folded_as, parts_of, run_parts
from dynnas.threads import use_threads


class EagerRunner:
    """A folded network in channels-last memory, which is the faster layout for convolutions on a CPU."""

    def __init__(
        self, network: Network | PlainNetwork, threads: int, dtype: str = "float32", batch: int = 1
    ) -> None:
        self._parts = parts_of(folded_as(network, "cpu", dtype), batch)
        self._threads, self._dtype = threads, getattr(torch, dtype)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image).to(self._dtype, memory_format=torch.channels_last)
        with use_threads(self._threads):
            return run_parts(self._parts, x).float().numpy()


def eager_runner(network: Compilable, device: str, threads: int, dtype: str, batch: int) -> Runner:
    """Return the runner of `network` in plain torch.

    The networks of a cascade are run one after the other.
    """
    if isinstance(network, Cascade):
        return ChainRunner(network, lambda member: eager_runner(member, device, threads, dtype, batch))
    if device == "cuda":
        return CudaRunner(network, dtype, batch)
    return EagerRunner(network, threads, dtype, batch)
