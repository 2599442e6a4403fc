"""Quantisation-aware training, then the quantisation to int8 that is scored and ships."""

from __future__ import annotations

import copy

from dynnas.compression.compress import CompressedModel, CompressionInput, Pass
from dynnas.compression.int8 import quantized
from dynnas.errors import require
from dynnas.training.algorithms.fake_quantization import FakeQuantization


def _run(source: CompressionInput) -> CompressedModel:
    """Tune with fake quantisation, and quantise with ranges from `images` training images."""
    require("onnx", "onnx")
    require("onnxruntime", "onnx")  # before the tuning, which takes its time
    tuned = source.tune(copy.deepcopy(source.network), FakeQuantization())
    return quantized(tuned, source)


QAT = Pass(_run, {"images": 256}, compiles=True)
