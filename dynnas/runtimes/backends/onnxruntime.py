"""ONNX Runtime on a CPU, from a graph packed for this processor or from the portable one."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import TargetError
from dynnas.runtimes.artifact import ONNX_MODEL, Artifact
from dynnas.runtimes.runtime import BatchExecution, BatchRunner, Runner, Runtime, register_runtime

if TYPE_CHECKING:
    from torch import Tensor

    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.plain import Compilable
    from dynnas.settings.settings import TargetSettings


@register_runtime
class PackedOnnxRuntime(Runtime):
    """ONNX Runtime, with graphs that are laid out for processors like the one that compiled them."""

    name = "onnxruntime"
    dtypes: ClassVar = {"cpu": ("float32",)}
    package = "onnxruntime"
    extra = "onnx"
    rank = 0
    note = ", packed graphs 3"
    branches = True
    portable: ClassVar[str | None] = "onnxruntime_portable"
    quantizations: ClassVar[tuple[str, ...]] = ("none", "int8")

    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Compile to an ONNX graph; there is one for batches, whatever the processor."""
        from dynnas.runtimes.metadata import describe
        from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch, to_packed_onnx

        for_one = to_packed_onnx if self.portable else to_onnx
        model = to_onnx_batch(network) if target.batch > 1 else for_one(network)
        files = {"model.onnx": model.SerializeToString()}
        return Artifact(files, "model.onnx", ONNX_MODEL, self.name, describe(network, target))

    def quantize(self, network: Compilable, target: TargetSettings, images: Tensor) -> Artifact:
        """Compile to an ONNX graph in int8, the same for any processor.

        Raises:
            TargetError: the network is a cascade.
        """
        from dynnas.runtimes.cascade import Cascade
        from dynnas.runtimes.metadata import describe
        from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx

        if isinstance(network, Cascade):
            raise TargetError("target: cascades are not quantised; quantise their networks")
        files = {"model.onnx": to_int8_onnx(network, images).SerializeToString()}
        metadata = describe(network, target) | {"quantize": "int8"}
        return Artifact(files, "model.onnx", ONNX_MODEL, self.name, metadata)

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load a session on a CPU."""
        from dynnas.runtimes.onnx.session import OnnxRunner

        return OnnxRunner(artifact.data, threads)

    def run_batches(self, network: Network, target: TargetSettings, execution: BatchExecution) -> BatchRunner:
        """Return a graph that computes everything, or a session for every segment."""
        from dynnas.runtimes.onnx.batches import CompactedOnnxRunner, MaskedOnnxRunner

        runner = CompactedOnnxRunner if execution == "compacted" else MaskedOnnxRunner
        return runner(network, target.threads)


@register_runtime
class PortableOnnxRuntime(PackedOnnxRuntime):
    """ONNX Runtime, with graphs that run on any processor."""

    name = "onnxruntime_portable"
    rank = 1
    note = ""
    portable = None
