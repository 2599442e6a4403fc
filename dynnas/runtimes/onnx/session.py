"""ONNX Runtime on a CPU: a device needs no more to run an exported graph."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

import numpy as np

from dynnas.errors import TargetError, require

PACKED_FOR = "dynnas.packed_for"
"""Key in a packed model's metadata: `packing_of_this_machine` where it was packed."""


class OnnxSession:
    """A session on a fixed number of threads that runs one operator after another, as on a small device.

    Args:
        model: a serialised ONNX model with input `image` and first output `logits`.
        threads: of each operator.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """

    def __init__(self, model: bytes, threads: int) -> None:
        ort = require("onnxruntime", "onnx")
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.log_severity_level = 3
        self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    @property
    def metadata(self) -> Mapping[str, str]:
        """Return the model's metadata."""
        return self._session.get_modelmeta().custom_metadata_map

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._session.run(["logits"], {"image": image})[0]

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return every output by its name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"image": images}), strict=True))


class OnnxRunner:
    """A session whose answers on this machine have been checked.

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
        """Return every output by its name."""
        return self._session.outputs(images)


def _check_packing(metadata: Mapping[str, str]) -> None:
    """Refuse a model that would give wrong answers here.

    Without onnx the layout of this processor is not known: a device elsewhere has none, and its client
    compares the answers.
    """
    if PACKED_FOR not in metadata or importlib.util.find_spec("onnx") is None:
        return
    from dynnas.runtimes.onnx.packing.layout import packing_of_this_machine

    if metadata[PACKED_FOR] != packing_of_this_machine():
        raise TargetError(
            f"this model is packed for processors with {metadata[PACKED_FOR]}, and this one has "
            f"{packing_of_this_machine()}; use the portable model.onnx, or export it again on this machine"
        )
