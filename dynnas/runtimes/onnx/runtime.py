"""ONNX Runtime on a CPU, from a graph packed for this processor or from the portable one."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynnas.errors import TargetError
from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx
from dynnas.runtimes.onnx.session import OnnxSession
from dynnas.runtimes.runtime import Runtime
from dynnas.settings.settings import TargetSettings


class OnnxRunner:
    """A session that is known to answer right on this machine.

    Args:
        model: a serialised ONNX model with input `image` and first output `logits`.
        threads: of each operator.

    Raises:
        MissingExtraError: onnxruntime is not installed.
        TargetError: the model is packed for other processors than this machine's.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        self._session = OnnxSession(model, threads)
        _check_packing(self._session.metadata)

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._session(image)

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every output by its name."""
        return self._session.outputs(images)


def onnx_model(network: Finished, runtime: str, batch: int) -> bytes:
    """The serialised graph that ships for a runtime: for batches there is one, whatever the processor.

    Raises:
        MissingExtraError: onnx (or, to pack, onnxruntime) is not installed.
    """
    if batch > 1:
        return to_onnx_batch(network).SerializeToString()
    model = to_packed_onnx(network) if runtime == "onnxruntime" else to_onnx(network)
    return model.SerializeToString()


def _build(runtime: str, network: Finished, target: TargetSettings) -> OnnxRunner:
    return OnnxRunner(onnx_model(network, runtime, target.batch), target.threads)


ONNXRUNTIME = Runtime(
    "onnxruntime", {"cpu": ("float32",)}, lambda network, target: _build("onnxruntime", network, target)
)
ONNXRUNTIME_PORTABLE = Runtime(
    "onnxruntime_portable",
    {"cpu": ("float32",)},
    lambda network, target: _build("onnxruntime_portable", network, target),
)


def _check_packing(metadata: Mapping[str, str]) -> None:
    """Refuse a model that would run here and answer nonsense."""
    from dynnas.runtimes.onnx.packing.layout import PACKED_FOR, packing_of_this_machine

    packed_for = metadata.get(PACKED_FOR)
    if packed_for not in (None, packing_of_this_machine()):
        raise TargetError(
            f"this model is packed for processors with {packed_for}, and this one has "
            f"{packing_of_this_machine()}; use the portable model.onnx, or export it again on this machine"
        )
