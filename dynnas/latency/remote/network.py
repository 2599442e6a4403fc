"""A network on its way to a device elsewhere: what is sent there, and what should come back."""

from __future__ import annotations

import copy

import numpy as np
import torch

from dynnas.errors import TargetError
from dynnas.latency.remote.artifact import TORCH_RUNTIMES
from dynnas.latency.remote.store import digest_of
from dynnas.latency.remote.torch_network import write_network
from dynnas.nn.exits import answers
from dynnas.runtimes.cascade import Cascade, Finished
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.runtime import onnx_model
from dynnas.settings.settings import TargetSettings

TOLERANCES = {"float32": 0.01, "float16": 0.05, "bfloat16": 0.2}
"""As parts of the largest logit (if above 1): nonsense is far beyond."""


class RemoteNetwork:
    """What stands for a runner where the device is another machine. Called here, it is torch that answers.

    Args:
        network: calibrated, on a CPU or not; a cascade travels as one graph.
        runtime: of the device, not `auto`.
        target: its type and batch decide on the graph.

    Attributes:
        artifact: what the device gets. digest: its name there.

    Raises:
        TargetError: the runtime takes no cascades.
    """

    def __init__(self, network: Finished, runtime: str, target: TargetSettings) -> None:
        self._network = fold_batchnorm(network).cpu()
        self._tolerance = TOLERANCES[target.dtype]
        if runtime in TORCH_RUNTIMES:
            if isinstance(network, Cascade):
                raise TargetError(
                    f"target: a cascade is run elsewhere as one graph, and {runtime} takes none; "
                    "use runtime onnxruntime, onnxruntime_portable or openvino there"
                )
            self.artifact = write_network(copy.deepcopy(network).cpu())
        else:
            self.artifact = onnx_model(network, runtime, target.batch)
        self.digest = digest_of(self.artifact)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._network(torch.from_numpy(image)).numpy()

    @torch.inference_mode()
    def recognises(self, answer: np.ndarray, image: np.ndarray) -> bool:
        """Whether a device's `answer` to `image` is about what torch says.

        By whichever exit: one whose confidence lies on its threshold may go either way.
        """
        outputs = self._network.logits(torch.from_numpy(image))
        every = torch.stack(answers(outputs, self._network.config.exits)).numpy()
        if answer.shape != every.shape[1:] or not np.isfinite(answer).all():
            return False
        allowed = self._tolerance * max(1.0, float(np.abs(every).max()))
        differences = np.abs(every - answer).reshape(*every.shape[:2], -1).max(axis=2)
        return bool((differences.min(axis=0) <= allowed).all())
