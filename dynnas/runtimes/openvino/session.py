"""OpenVINO on a CPU, from an ONNX graph; branches at exits are the graph's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from dynnas.errors import TargetError, require

# A type that the processor does not have would silently become another one.
HINTS = {"float32": ("f32", "FP32"), "bfloat16": ("bf16", "BF16"), "float16": ("f16", "FP16")}


class OpenVinoSession:
    """A compiled model with one stream, for the least time of a single call.

    Args:
        model: a serialised ONNX model with input `image` and output `logits`, or the file of one in
            OpenVINO's own form.
        threads: of the one stream.
        dtype: in which it computes; inputs and outputs stay float32.

    Raises:
        MissingExtraError: openvino is not installed.
        TargetError: the processor does not compute in `dtype`, or OpenVINO cannot run the graph.
    """

    def __init__(self, model: bytes | Path, threads: int, dtype: str = "float32") -> None:
        core = require("openvino", "openvino").Core()
        able = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        hint, capability = HINTS[dtype]
        if capability not in able:
            allowed = ", ".join(name for name, (_, needed) in HINTS.items() if needed in able)
            raise TargetError(
                f"target: OpenVINO has no {dtype} on this processor; use dtype {allowed}, or another runtime"
            )
        try:
            compiled = core.compile_model(
                core.read_model(model, b"") if isinstance(model, bytes) else core.read_model(model),
                "CPU",
                {"INFERENCE_PRECISION_HINT": hint, "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads},
            )
        except RuntimeError as error:
            said = " ".join(str(error).split())
            raise TargetError(
                f"target: OpenVINO cannot run the network's graph: {said[:300]}; write that part with other "
                "operators, or take another runtime"
            ) from error
        self.threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._request = compiled.create_infer_request()
        self._names = [_name(output.names) for output in compiled.outputs]

    def __call__(self, image: np.ndarray) -> np.ndarray:
        # The request reuses its memory in the next call.
        return self._request.infer({"image": image}, share_inputs=True, share_outputs=True)["logits"].copy()

    def outputs(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return every output by its name."""
        results = self._request.infer({"image": images})
        return {name: results[name].copy() for name in self._names}


def _name(names: set[str]) -> str:
    """Return the name of an output, which has those of what was left out behind it as well."""
    return next((name for name in ("logits", "exit") if name in names), min(names))


def write_ir(model: bytes, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a serialised ONNX model in OpenVINO's own form, in float32: `path` (.xml) and a .bin beside it.

    `metadata` becomes its runtime information `model_info`.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    openvino = require("openvino", "openvino")
    converted = openvino.Core().read_model(model, b"")
    for name, value in metadata.items():
        converted.set_rt_info(value, ["model_info", name])
    openvino.save_model(converted, path, compress_to_fp16=False)
