"""ONNX Runtime on a CPU: all that a device needs to run an exported graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynnas.errors import require


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
        """What the model says of itself."""
        return self._session.get_modelmeta().custom_metadata_map

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self._session.run(["logits"], {"image": image})[0]

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Every output by its name."""
        names = [output.name for output in self._session.get_outputs()]
        return dict(zip(names, self._session.run(names, {"image": images}), strict=True))
