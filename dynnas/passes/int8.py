"""Static int8 quantisation, for ONNX Runtime on a CPU."""

from __future__ import annotations

from dynnas.errors import require
from dynnas.passes.run import Pass, Shrunk, Source


def _run(source: Source) -> Shrunk:
    """Quantise with ranges from `images` training images."""
    require("onnx", "onnx")

    from dynnas.runtime.onnx_int8 import to_int8_onnx  # imports onnx

    images = source.calibration_images()[: int(source.options["images"])]
    graph = to_int8_onnx(source.network, images).SerializeToString()
    return Shrunk(graph=graph, details={"calibration_images": len(images)})


INT8 = Pass(_run, {"images": 256}, trains=False)
