"""Torch's compiler: the parts of a network through inductor; Python decides between them."""

from __future__ import annotations

import warnings
from types import FunctionType
from typing import Any

import numpy as np
import torch

from dynnas.errors import TargetError
from dynnas.nn.networks.network import Network
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.plain import Compilable, PlainNetwork, blank_images
from dynnas.runtimes.runtime import Runner
from dynnas.runtimes.torch.chain import ChainRunner
from dynnas.runtimes.torch.parts import Part, Run, folded_as, parts_of, run_parts
from dynnas.threads import use_threads


class CompiledRunner:
    """A folded network, compiled when it is built: that takes seconds to minutes.

    Raises:
        TargetError: torch cannot compile it here, for example without a C++ compiler.
    """

    def __init__(
        self,
        network: Network | PlainNetwork,
        device: str,
        threads: int,
        dtype: str = "float32",
        batch: int = 1,
    ) -> None:
        self._device, self._threads, self._dtype = device, threads, getattr(torch, dtype)
        self._layout = torch.channels_last if device == "cpu" else torch.contiguous_format
        # Constants are folded and laid out when it is compiled, as the network ships with its weights.
        options: dict[str, Any] = {
            "freezing": True,
            "triton.cudagraphs": device == "cuda",
            "compile_threads": 1,
        }
        x = self._on_device(blank_images(network.config, batch))
        self._parts: list[Part] = []
        # The number of threads is part of what is compiled. The compiler warns of its own parts' age.
        with torch.inference_mode(), use_threads(threads), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for run, place in parts_of(folded_as(network, device, dtype), batch):
                compiled = torch.compile(_apart(run), fullgraph=True, dynamic=False, options=options)
                self._parts.append((compiled, place))
                try:
                    x = compiled(x)[0].clone()
                except RuntimeError as error:
                    reason = str(error).strip().split("\n")[-1]
                    raise TargetError(
                        f"target: torch.compile cannot compile this network here ({reason}); on a CPU it "
                        "needs a C++ compiler; use runtime torch, or another"
                    ) from error

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        with use_threads(self._threads):
            return run_parts(self._parts, self._on_device(torch.from_numpy(image))).float().cpu().numpy()

    def _on_device(self, image: torch.Tensor) -> torch.Tensor:
        return image.to(self._device, self._dtype, memory_format=self._layout)


def _apart(run: Run) -> Run:
    """Return `run` with a code object of its own.

    torch keeps what it compiled with the code, and after eight networks with the same code compiles no more.
    """
    assert isinstance(run, FunctionType)
    run.__code__ = run.__code__.replace()
    return run


def compiled_runner(network: Compilable, device: str, threads: int, dtype: str, batch: int) -> Runner:
    """Return the runner of `network` by torch.compile.

    The networks of a cascade are run one after the other.
    """
    if isinstance(network, Cascade):
        return ChainRunner(network, lambda member: compiled_runner(member, device, threads, dtype, batch))
    return CompiledRunner(network, device, threads, dtype, batch)
