"""OpenVINO on a CPU, from the portable ONNX graph."""

from __future__ import annotations

from dynnas.runtimes.cascade import Finished
from dynnas.runtimes.onnx.runtime import onnx_model
from dynnas.runtimes.openvino.session import OpenVinoSession
from dynnas.runtimes.runtime import Runtime
from dynnas.settings.settings import TargetSettings


def _build(network: Finished, target: TargetSettings) -> OpenVinoSession:
    return OpenVinoSession(onnx_model(network, "openvino", target.batch), target.threads, target.dtype)


OPENVINO = Runtime("openvino", {"cpu": ("float32", "bfloat16", "float16")}, _build)
