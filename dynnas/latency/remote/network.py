"""A network for a device elsewhere: the artifact that is sent, and the check of what comes back."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from dynnas.nn.exits.exits import answers
from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.plain import as_compilable

TOLERANCES = {"float32": 0.01, "float16": 0.05, "bfloat16": 0.2, "int8": 0.5}
"""Allowed deviation by dtype or quantisation, relative to max(1, largest |logit|)."""


class RemoteNetwork:
    """The runner of a network whose device is another machine; called here, torch answers.

    Args:
        network: calibrated, on a CPU or not. artifact: of it, for the device.

    Attributes:
        artifact: what the device gets.
    """

    def __init__(self, network: nn.Module, artifact: Artifact) -> None:
        shape = [int(side) for side in artifact.metadata["shape"].split()]
        self._network = fold_batchnorm(as_compilable(network, shape)).cpu()
        self._tolerance = max(TOLERANCES[artifact.dtype], TOLERANCES.get(artifact.quantized, 0.0))
        self.artifact = artifact

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._network(torch.from_numpy(image)).numpy()

    @torch.inference_mode()
    def matches(self, answer: np.ndarray, image: np.ndarray) -> bool:
        """Return whether a device's `answer` to `image` agrees with torch.

        By whichever exit: one whose confidence lies on its threshold may go either way.
        """
        outputs = self._network.logits(torch.from_numpy(image))
        every = torch.stack(answers(outputs, self._network.config.exits)).numpy()
        if answer.shape != every.shape[1:] or not np.isfinite(answer).all():
            return False
        allowed = self._tolerance * max(1.0, float(np.abs(every).max()))
        differences = np.abs(every - answer).reshape(*every.shape[:2], -1).max(axis=2)
        return bool((differences.min(axis=0) <= allowed).all())
