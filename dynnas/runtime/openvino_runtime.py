"""OpenVINO on a CPU, from the portable ONNX graph."""

from __future__ import annotations

from dynnas.device.openvino_session import OpenVinoSession
from dynnas.runtime.cascade import Finished
from dynnas.runtime.onnx_runtime import onnx_model
from dynnas.runtime.runtime import Runtime
from dynnas.space.settings import TargetSettings


def _build(network: Finished, target: TargetSettings) -> OpenVinoSession:
    return OpenVinoSession(onnx_model(network, "openvino", target.batch), target.threads, target.dtype)


OPENVINO = Runtime("openvino", {"cpu": ("float32", "bfloat16", "float16")}, _build)
