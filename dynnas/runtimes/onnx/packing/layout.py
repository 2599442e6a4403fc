"""The layout that ONNX Runtime gives to kernels on this processor, found by numbering their elements.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from onnx import ModelProto, TensorProto, helper, load_model, numpy_helper

from dynnas.errors import require

MOST_NUMBERS = 200
MOST_ELEMENTS = 2**24
"""Maximum number of elements of a kernel that float32 can number."""

_LEAST_EXPONENT = -100


def numbered(shape: Sequence[int], number: int) -> np.ndarray:
    """Return the stand-in `number`, below `MOST_NUMBERS`: 1, 2, 3, ... times a power of two of its own."""
    elements = np.arange(1, np.prod(shape) + 1, dtype=np.float32)
    return np.ldexp(elements, number + _LEAST_EXPONENT).reshape(shape)


def number_of(tensor: np.ndarray) -> int | None:
    """Return the number of the stand-in that `tensor` was.

    It may be rearranged and padded with zeros; None if it was none.
    """
    elements = np.sort(tensor[tensor > 0], axis=None)
    if tensor.dtype != np.float32 or elements.size == 0:
        return None
    number = int(np.frexp(elements[0])[1]) - 1 - _LEAST_EXPONENT
    if not 0 <= number < MOST_NUMBERS or (tensor < 0).any():
        return None
    return number if np.array_equal(elements, numbered(elements.shape, number)) else None


def positions(stand_in: np.ndarray, number: int) -> np.ndarray:
    """Return the flat index in the stand-in of each element of its rearrangement; -1 for padding."""
    return np.ldexp(stand_in, -number - _LEAST_EXPONENT).astype(np.int64).ravel() - 1


@cache
def block_size() -> int:
    """Return the channels in a block of the packed layout; 1 where ONNX Runtime has no such layout."""
    size = 64
    kernel = numbered((size, size, 1, 1), 0)
    graph = helper.make_graph(
        [helper.make_node("Conv", ["x", "kernel"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, size, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, size, 8, 8])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    optimised = optimise(model, "ORT_ENABLE_ALL")
    order = positions(numpy_helper.to_array(optimised.graph.initializer[0]), 0)
    block = 1
    while block < size and order[block] == block * size:
        block += 1
    return block


def optimise(model: ModelProto, level: str) -> ModelProto:
    """Return the graph that ONNX Runtime makes of `model`, at a `GraphOptimizationLevel` of this name."""
    ort = require("onnxruntime", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "model.onnx")
        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = str(file)
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return load_model(file)
