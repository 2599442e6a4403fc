"""Torch on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from dynnas.ops import Network, Segment, is_confident
from dynnas.runtime.folding import fold_batchnorm
from dynnas.runtime.images import blank_images

WARM_UP_RUNS = 3
"""Runs before a capture, in which the libraries choose their algorithms and allocate."""


class CudaRunner:
    """A folded network whose segments are CUDA graphs where they can be captured, and run eagerly otherwise.

    The image comes from host memory and the logits go back to it, as they will where the network is used;
    reading them waits for the device.
    """

    def __init__(self, network: Network) -> None:
        segments = fold_batchnorm(network).cuda().segments()
        x = blank_images(network.config).cuda()
        self._image = x
        self._steps: list[tuple[Callable[[Tensor], tuple[Tensor, Tensor]], float | None]] = []
        for segment in segments:
            run = _capture(segment, x)
            self._steps.append((run, segment.threshold))
            x, _ = run(x)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = self._image.copy_(torch.from_numpy(image))
        for run, threshold in self._steps:
            x, logits = run(x)
            if threshold is None or is_confident(logits, threshold).item():
                break
        return logits.cpu().numpy()


def _capture(segment: Segment, example: Tensor) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """The segment as a function of its input to (features, logits), a CUDA graph if it can be one."""

    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        features = segment.body(x)
        return features, segment.classifier(features)

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
        # A captured segment before this one left its features where this one reads them; another did not.
        if x is not example:
            example.copy_(x)
        graph.replay()
        return outputs

    return replay
