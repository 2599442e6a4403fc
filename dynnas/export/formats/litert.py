"""LiteRT models, for Android phones and small boards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dynnas.export.formats.format import ONE_IMAGE, Format, ModelFile, predict_by, register_format

if TYPE_CHECKING:
    from torch import Tensor

    from dynnas.export.formats.format import Predict
    from dynnas.runtimes.cascade import Finished

FILE = "model.tflite"


@register_format
class LitertModel(Format):
    """The artifact of the runtime `litert` with its metadata; exits and gates are branches (`IF`) in it."""

    name = "litert"
    models: ClassVar[tuple[ModelFile, ...]] = (
        ModelFile(
            FILE,
            1,
            f"{ONE_IMAGE}; in float32, channels before height and width",
            f'ai_edge_litert.interpreter.Interpreter("{FILE}").get_signature_runner()(image=image)',
        ),
    )
    example: ClassVar = (
        "from ai_edge_litert.interpreter import Interpreter  # in Kotlin, org.tensorflow.lite.Interpreter",
        f'model = Interpreter("{FILE}").get_signature_runner()',
        'logits = model(image=image)["logits"]',
    )
    branches_at_gates = True

    def in_int8(self, images: Tensor) -> Format:
        """Return the format of the model in int8."""
        return _Int8Litert(images)

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the file.

        Raises:
            MissingExtraError: ai_edge_litert or onnx is not installed.
            TargetError: the network has operators that LiteRT has not.
        """
        from dynnas.runtimes.litert.compilation import compile_litert

        (folder / FILE).write_bytes(compile_litert(network, metadata))

    def load(self, path: Path) -> Predict:
        """Load an interpreter of one thread."""
        from dynnas.runtimes.litert.session import LitertRunner

        runner = LitertRunner(path.read_bytes(), threads=1)
        return predict_by(runner.outputs)


class _Int8Litert(LitertModel):
    """The artifact of LiteRT in int8; it is `litert` for networks that were quantised."""

    models: ClassVar[tuple[ModelFile, ...]] = (
        replace(
            LitertModel.models[0],
            use=f"{ONE_IMAGE}; weights and activations in int8, as its latency is measured; channels before "
            "height and width",
        ),
    )
    exact = False
    details: ClassVar = {"quantize": "int8"}

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def write(self, network: Finished, folder: Path, metadata: Mapping[str, str]) -> None:
        """Write the file in int8."""
        from dynnas.runtimes.litert.compilation import compile_litert

        (folder / FILE).write_bytes(compile_litert(network, metadata, self._images))
