"""Plain torch on a CPU."""

from __future__ import annotations

import numpy as np
import torch

from dynnas.ops import Network
from dynnas.runtime.branching import first_confident
from dynnas.runtime.folding import fold_batchnorm
from dynnas.runtime.layout import to_channels_last


class EagerRunner:
    """A folded network in channels-last memory, which is the faster layout for convolutions on a CPU."""

    def __init__(self, network: Network, threads: int) -> None:
        folded = fold_batchnorm(network).cpu()
        to_channels_last(folded)
        self._segments = folded.segments()
        self._threads = threads

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(image).to(memory_format=torch.channels_last)
        # torch has one number of threads for the whole process; others in it may be training with another.
        before = torch.get_num_threads()
        torch.set_num_threads(self._threads)
        try:
            logits, _ = first_confident(self._segments, x)
        finally:
            torch.set_num_threads(before)
        return logits.numpy()
