"""Torch on a CUDA device."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dynnas.nn.networks.network import Network
from dynnas.runtimes.plain import PlainNetwork, blank_images
from dynnas.runtimes.torch.parts import Part, Run, folded_as, parts_of, run_parts

WARM_UP_RUNS = 3
"""Runs before a capture, in which the libraries choose their algorithms and allocate."""


def gpu_name() -> str:
    """Return the device and its driver, for fingerprints."""
    return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"


class CudaRunner:
    """A folded network whose parts are CUDA graphs where they can be captured, and run eagerly otherwise.

    The image comes from host memory and the logits go back to it, as they will where the network is used;
    reading them waits for the device.
    """

    def __init__(self, network: Network | PlainNetwork, dtype: str = "float32", batch: int = 1) -> None:
        x = blank_images(network.config, batch).to("cuda", getattr(torch, dtype))
        self._image = x
        self._parts: list[Part] = []
        for run, place in parts_of(folded_as(network, "cuda", dtype), batch):
            captured = _capture(run, x)
            self._parts.append((captured, place))
            x, _ = captured(x)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = self._image.copy_(torch.from_numpy(image))
        return run_parts(self._parts, x).float().cpu().numpy()


def _capture(run: Run, example: Tensor) -> Run:
    """Return the function as a CUDA graph if it can be one, else as it is."""
    with torch.inference_mode():
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                run(example)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                outputs = run(example)
        except RuntimeError:
            # An operator that reads a value back to the host, or sizes something by it, cannot be captured.
            return run

    def replay(x: Tensor) -> tuple[Tensor, Tensor]:
        # A captured part before this one left its features where this one reads them; another did not.
        if x is not example:
            example.copy_(x)
        graph.replay()
        return outputs

    return replay
