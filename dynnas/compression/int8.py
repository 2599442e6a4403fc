"""Static int8 quantisation, for ONNX Runtime on a CPU."""

from __future__ import annotations

from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.errors import require
from dynnas.nn.networks.network import Network
from dynnas.runtimes.artifact import ONNX_MODEL, Artifact


def quantized(network: Network, source: CompressionInput) -> CompressedModel:
    """Return a network as a graph in int8, with ranges from `images` training images of a pass's input.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    require("onnx", "onnx")

    from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx

    images = source.calibration_images()[: int(source.options["images"])]
    graph = to_int8_onnx(network, images).SerializeToString()
    artifact = Artifact({"model.onnx": graph}, "model.onnx", ONNX_MODEL, "onnxruntime_portable")
    return CompressedModel(artifact=artifact, details={"calibration_images": len(images)})


def _run(source: CompressionInput) -> CompressedModel:
    """Quantise the network as it is."""
    return quantized(source.network, source)


INT8 = Pass(_run, {"images": 256}, trains=False, compiles=True)
