"""OpenVINO on a CPU, from the portable ONNX graph."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dynnas.runtimes.artifact import ONNX_MODEL, Artifact
from dynnas.runtimes.runtime import Runner, Runtime, register_runtime

if TYPE_CHECKING:
    from dynnas.runtimes.plain import Compilable
    from dynnas.settings.settings import TargetSettings


@register_runtime
class OpenVino(Runtime):
    """OpenVINO, with the branches of the ONNX graph."""

    name = "openvino"
    dtypes: ClassVar = {"cpu": ("float32", "bfloat16", "float16")}
    package = "openvino"
    extra = "openvino"
    rank = 2
    branches = True

    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Compile to an ONNX graph, which OpenVINO compiles when it is loaded."""
        from dynnas.runtimes.metadata import describe
        from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch

        model = to_onnx_batch(network) if target.batch > 1 else to_onnx(network)
        files = {"model.onnx": model.SerializeToString()}
        return Artifact(files, "model.onnx", ONNX_MODEL, self.name, describe(network, target))

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load a compiled model with one stream."""
        from dynnas.runtimes.openvino.session import OpenVinoSession

        return OpenVinoSession(artifact.data, threads, artifact.dtype)
