"""ONNX Runtime by an execution provider: one runtime for each, with the portable graph.

A provider that a build of ONNX Runtime does not have is no error of its own: it warns, and runs everything on
the CPU. Here that is refused, with the build that has it; and how much a provider that is there leaves to the
CPU is counted: see `dynnas.runtimes.onnx.placement`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

from dynnas.errors import TargetError, require
from dynnas.runtimes.backends.onnxruntime import PortableOnnxRuntime
from dynnas.runtimes.onnx.placement import Provider
from dynnas.runtimes.runtime import BatchExecution, BatchRunner, Runner, Runtime, register_runtime

if TYPE_CHECKING:
    from dynnas.nn.networks.network import Network
    from dynnas.runtimes.artifact import Artifact
    from dynnas.settings.settings import TargetSettings

FROM_SOURCE = "a build of ONNX Runtime from source with"


class ProviderRuntime(PortableOnnxRuntime):
    """ONNX Runtime by one execution provider, with the CPU for what it cannot run.

    Attributes:
        provider: the execution provider.
    """

    provider: ClassVar[Provider]
    rank = 50
    quantizations: ClassVar[tuple[str, ...]] = ("none",)

    def can_run(self, device: str) -> bool:
        """Return whether an ONNX Runtime is installed that has the provider."""
        return super().can_run(device) and self.provider.name in self._available()

    def check(self, device: str, dtype: str) -> None:
        """Check as every runtime does, and that the installed build has the provider.

        Raises:
            TargetError: it has not; says which it has, and where one that has it comes from.
            MissingExtraError: onnxruntime is not installed.
        """
        super().check(device, dtype)
        available = self._available()
        if self.provider.name not in available:
            raise TargetError(
                f"target: runtime {self.name}: the installed onnxruntime has no {self.provider.name}, only "
                f"{', '.join(available)}; install {self.provider.source}, or use runtime onnxruntime"
            )

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load a session by the provider.

        Raises:
            TargetError: the build does not have it, or it takes no node of the network.
        """
        from dynnas.runtimes.onnx.session import OnnxRunner

        self.check(artifact.device, artifact.dtype)
        return OnnxRunner(artifact.data, threads, self.provider)

    def run_batches(self, network: Network, target: TargetSettings, execution: BatchExecution) -> BatchRunner:
        """Refuse: batches of any size are run on the CPU.

        Raises:
            TargetError: always.
        """
        return Runtime.run_batches(self, network, target, execution)

    def _available(self) -> list[str]:
        available: list[str] = require(self.package, self.extra).get_available_providers()
        return available


@register_runtime
class Xnnpack(ProviderRuntime):
    """XNNPACK: the kernels that phones run on their CPUs."""

    name = "onnxruntime_xnnpack"
    provider = Provider(
        "XnnpackExecutionProvider", f"{FROM_SOURCE} --use_xnnpack", threads="intra_op_num_threads"
    )


@register_runtime
class OpenVinoProvider(ProviderRuntime):
    """OpenVINO on a CPU, inside ONNX Runtime."""

    name = "onnxruntime_openvino"
    provider = Provider(
        "OpenVINOExecutionProvider",
        "onnxruntime-openvino in place of onnxruntime",
        {"device_type": "CPU", "precision": "FP32"},
        "num_of_threads",
    )


@register_runtime
class Cuda(ProviderRuntime):
    """ONNX Runtime's own CUDA kernels."""

    name = "onnxruntime_cuda"
    dtypes: ClassVar = {"cuda": ("float32",)}
    provider = Provider("CUDAExecutionProvider", "onnxruntime-gpu in place of onnxruntime")


def engine_cache(model: bytes) -> dict[str, str]:
    """Return TensorRT's settings by which the engine of a model is kept on this machine, and built once.

    TensorRT names an engine by the model's graph, which networks that differ in nothing but their weights
    share: one folder for all would give one of them the answers of another. So each model has its own, by the
    digest of its bytes. The times of kernels hold for all models, and are shared.
    """
    from dynnas.files import cache_folder

    folder = cache_folder() / "tensorrt"
    own = folder / hashlib.sha256(model).hexdigest()[:32]
    own.mkdir(parents=True, exist_ok=True)
    return {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(own),
        "trt_timing_cache_enable": "True",
        "trt_timing_cache_path": str(folder),
    }


@register_runtime
class TensorRt(ProviderRuntime):
    """TensorRT: an engine is built for every network, which takes seconds to minutes, and kept."""

    name = "onnxruntime_tensorrt"
    dtypes: ClassVar = {"cuda": ("float32",)}
    provider = Provider(
        "TensorrtExecutionProvider",
        "onnxruntime-gpu in place of onnxruntime, and NVIDIA's TensorRT",
        of_model=engine_cache,
    )


@register_runtime
class CoreMl(ProviderRuntime):
    """Core ML: Apple's CPU, graphics card or neural engine, as the system chooses."""

    name = "onnxruntime_coreml"
    provider = Provider(
        "CoreMLExecutionProvider",
        "onnxruntime on macOS",
        {"ModelFormat": "MLProgram", "MLComputeUnits": "ALL"},
    )


@register_runtime
class Nnapi(ProviderRuntime):
    """NNAPI: the accelerators of an Android device."""

    name = "onnxruntime_nnapi"
    provider = Provider("NnapiExecutionProvider", f"{FROM_SOURCE} --use_nnapi for Android")


@register_runtime
class Qnn(ProviderRuntime):
    """QNN: the accelerators of Qualcomm's processors."""

    name = "onnxruntime_qnn"
    provider = Provider(
        "QNNExecutionProvider", "onnxruntime-qnn in place of onnxruntime", {"backend_type": "htp"}
    )


@register_runtime
class DirectMl(ProviderRuntime):
    """DirectML: any graphics card of Windows."""

    name = "onnxruntime_directml"
    provider = Provider("DmlExecutionProvider", "onnxruntime-directml in place of onnxruntime")
