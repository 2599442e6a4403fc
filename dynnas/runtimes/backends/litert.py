"""LiteRT on a CPU, by XNNPACK: made for Android phones and small boards."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from dynnas.runtimes.artifact import Artifact
from dynnas.runtimes.runtime import Runner, Runtime, register_runtime

if TYPE_CHECKING:
    from torch import Tensor

    from dynnas.runtimes.plain import Compilable
    from dynnas.settings.settings import TargetSettings

LITERT_MODEL = "application/vnd.google.litert"


@register_runtime
class Litert(Runtime):
    """LiteRT, with the branches of the ONNX graph. A batch is run image by image."""

    name = "litert"
    dtypes: ClassVar = {"cpu": ("float32",)}
    package = "ai_edge_litert"
    extra = "litert"
    rank = 6
    branches = True
    quantizations: ClassVar[tuple[str, ...]] = ("none", "int8")

    def compile(self, network: Compilable, target: TargetSettings) -> Artifact:
        """Convert the graph for one image.

        Raises:
            TargetError: the network has operators that LiteRT has not.
        """
        from dynnas.runtimes.litert.compilation import compile_litert
        from dynnas.runtimes.metadata import describe

        files = {"model.tflite": compile_litert(network)}
        return Artifact(files, "model.tflite", LITERT_MODEL, self.name, describe(network, target))

    def quantize(self, network: Compilable, target: TargetSettings, images: Tensor) -> Artifact:
        """Convert the graph that ONNX Runtime quantises.

        Raises:
            TargetError: the network is a cascade, or has operators that LiteRT has not.
        """
        from dynnas.runtimes.litert.compilation import compile_litert
        from dynnas.runtimes.metadata import describe

        files = {"model.tflite": compile_litert(network, int8_images=images)}
        metadata = describe(network, target) | {"quantize": "int8"}
        return Artifact(files, "model.tflite", LITERT_MODEL, self.name, metadata)

    def load(self, artifact: Artifact, threads: int = 1) -> Runner:
        """Load an interpreter on a CPU."""
        from dynnas.runtimes.litert.session import LitertRunner

        return LitertRunner(artifact.data, threads)
