"""ONNX graphs in int8: static quantisation by ONNX Runtime, with real branching at exits and gates.

Every part between branches is quantised alone, with ranges from the images that run it; what decides at
gates stays in float32. Convolutions with a constant kernel, the additions and activations between them, and
classifiers compute in int8: weights int8 for each channel, activations uint8 with ranges from calibration
images. What a router or an attention computes is left in float32, for it is small and decides much. A kernel
that is mixed for each image has no constant range, so its convolution stays in float32; its bank is kept in
int8, with a scale for each of its rows, and turned back when the graph runs.

Small networks get slower by it: turning numbers to int8 and back costs more than it saves where a convolution
takes microseconds. In a trial on a processor with VNNI, one thread, residual blocks of 24 to 48 channels took
half of their time in float32, mobile ones of 48 to 192 channels 0.4; but networks of `spaces/fashion.yaml`,
of 8 to 48 channels with dynamic layers, 1.1 to 1.3 times theirs, and 2.2 to 3.5 times what they take packed
(`dynnas.runtimes.onnx.packing`), which an int8 graph is not.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from onnx import ModelProto, NodeProto, helper, load_model, numpy_helper
from torch import Tensor

from dynnas.errors import require
from dynnas.nn.branching import BranchMode
from dynnas.nn.context import Context
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import own_exits
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.graph import join
from dynnas.runtimes.onnx.int8.branches import Values, int8_with_branches
from dynnas.runtimes.onnx.recording import Recorder
from dynnas.runtimes.onnx.segment import trace_segment
from dynnas.runtimes.plain import PlainNetwork, blank_images

if TYPE_CHECKING:
    from onnx import GraphProto

QUANTISED = ("Conv", "Gemm", "Add", "Relu")
LEAST_BANK = 512
"""Minimum size of a constant that is worth a scale for each row."""


def to_int8_onnx(network: Network | PlainNetwork, images: Tensor) -> ModelProto:
    """Return the graph for one image in int8; inputs and outputs as `to_onnx`.

    Args:
        network: calibrated, in eval mode.
        images: (N, channels, R, R) training images, normalised: their activations set the ranges.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    recorder = Recorder()
    folded = fold_batchnorm(network, Context(GateMode("real"), BranchMode(recorder.run))).cpu()
    parts, x = [], blank_images(network.config)
    inputs = {"image": [image[None] for image in images.cpu().numpy()]}
    for segment in folded.segments():
        traced = trace_segment(segment, x, own_exits(network))
        part, found = int8_with_branches(traced, recorder.calls, inputs, _quantise)
        parts.append(part)
        with torch.no_grad():
            x = segment.body(x)
        inputs = {"image": list(found.get("features", ()))}
    return join(network, parts)


def _quantise(model: ModelProto, inputs: Values) -> ModelProto:
    """Return one graph without branches, its ranges set by `inputs`."""
    if not any(node.op_type in QUANTISED for node in model.graph.node):
        return model
    quantization = require("onnxruntime.quantization", "onnx")
    preparation = require("onnxruntime.quantization.shape_inference", "onnx")
    with tempfile.TemporaryDirectory() as folder:
        prepared, quantised = str(Path(folder, "prepared.onnx")), str(Path(folder, "int8.onnx"))
        copied = ModelProto.FromString(model.SerializeToString())  # what it takes is no longer of use
        preparation.quant_pre_process(copied, prepared, skip_symbolic_shape=True)
        graph = load_model(prepared).graph
        quantization.quantize_static(
            prepared,
            quantised,
            _Images(inputs, [value.name for value in graph.input]),
            quant_format=quantization.QuantFormat.QDQ,
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
            op_types_to_quantize=list(QUANTISED),
            nodes_to_exclude=[node.name for node in _kept(graph)],
        )
        found = load_model(quantised)
    _shrink_banks(found.graph)
    del found.graph.value_info[:]  # shapes in between, which anyone can infer
    return found


class _Images:
    """A reader of calibration images for ONNX Runtime, one by one."""

    def __init__(self, inputs: Values, names: Sequence[str]) -> None:
        rows = zip(*(inputs[name] for name in names), strict=True)
        self._left = iter([dict(zip(names, row, strict=True)) for row in rows])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._left, None)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        return self._left

    def __next__(self) -> dict[str, np.ndarray]:
        return next(self._left)


def _kept(graph: GraphProto) -> list[NodeProto]:
    """Return what stays in float32: kernels of each image's own, routers and attentions."""
    constants = {tensor.name for tensor in graph.initializer}
    logits = graph.output[0].name
    kept = []
    for node in graph.node:
        mixed = node.op_type in ("Conv", "Gemm") and node.input[1] not in constants
        inner = node.op_type == "Gemm" and logits not in node.output
        if mixed or inner:
            kept.append(node)
    return kept


def _shrink_banks(graph: GraphProto) -> None:
    """Keep the large constants that are still float32 in int8, symmetric, with a scale for each row."""
    taken: dict[str, str] = {}
    for tensor in list(graph.initializer):
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < LEAST_BANK:
            continue
        rows = values.reshape(len(values), -1)
        scale = np.maximum(np.abs(rows).max(axis=1), np.finfo(np.float32).tiny) / 127
        whole = np.rint(rows / scale[:, None]).astype(np.int8).reshape(values.shape)
        name = tensor.name
        parts: dict[str, Any] = {f"{name}/int8": whole, f"{name}/scale": scale.astype(np.float32)}
        graph.initializer.remove(tensor)
        graph.initializer.extend(numpy_helper.from_array(part, label) for label, part in parts.items())
        taken[name] = f"{name}/float"
        graph.node.insert(0, helper.make_node("DequantizeLinear", list(parts), [taken[name]], axis=0))
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in taken:
                node.input[index] = taken[name]
