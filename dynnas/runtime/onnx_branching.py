"""The segments of a network with exits, exported one by one, joined into one graph that really branches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dynnas.errors import require

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto


def join_segments(parts: Sequence[ModelProto], thresholds: Sequence[float]) -> ModelProto:
    """One model that runs segment after segment until one is confident.

    Every exit is an `If`: one branch hands out the logits at hand, the other holds all the rest of the
    network, so that what is skipped does not run.

    Args:
        parts: one model per segment, from `image` (the features of the segment before) to `logits` (1,
        classes) and,
            except for the last, `features`. All of one opset.
        thresholds: of every exit; the confidence is the largest softmax.

    Returns:
        A model from `image` to `logits` (1, classes) and `exit` (1,) int64.
    """
    onnx = require("onnx", "onnx")
    for index, part in enumerate(parts):
        # An inner graph sees the names of those around it: each segment's get a prefix of their own.
        onnx.compose.add_prefix(part, _scope(index), inplace=True)
    graph = _from_segment(0, parts, thresholds)
    model = onnx.helper.make_model(graph, producer_name="dynnas", opset_imports=parts[0].opset_import)
    model.ir_version = parts[0].ir_version
    onnx.checker.check_model(model, full_check=True)
    return model


def _scope(index: int) -> str:
    return f"segment{index}/"


def _from_segment(index: int, parts: Sequence[ModelProto], thresholds: Sequence[float]) -> GraphProto:
    """Segment `index` and all after it; an inner one takes its input from the graph around it, by name."""
    helper = require("onnx", "onnx").helper
    scope, graph = _scope(index), parts[index].graph
    outer = "image" if index == 0 else _scope(index - 1) + "features"
    logits, exit_taken = ("logits", "exit") if index == 0 else (scope + "left_logits", scope + "left_exit")
    nodes = [helper.make_node("Identity", [outer], [scope + "image"]), *graph.node]
    weights = list(graph.initializer)
    if index == len(thresholds):
        nodes += _leave_nodes(index, logits, exit_taken)
    else:
        leave = helper.make_graph(
            _leave_nodes(index, scope + "early_logits", scope + "early_exit"),
            scope + "leave",
            inputs=[],
            outputs=_result(parts, scope + "early_logits", scope + "early_exit"),
        )
        go_on = _from_segment(index + 1, parts, thresholds)
        nodes += [
            helper.make_node("Softmax", [scope + "logits"], [scope + "softmax"], axis=1),
            helper.make_node(
                "ReduceMax", [scope + "softmax", scope + "axes"], [scope + "confidence"], keepdims=0
            ),
            helper.make_node(
                "GreaterOrEqual", [scope + "confidence", scope + "threshold"], [scope + "confident"]
            ),
            helper.make_node(
                "If", [scope + "confident"], [logits, exit_taken], then_branch=leave, else_branch=go_on
            ),
        ]
        weights += [
            _constant(scope + "axes", np.array([1])),
            _constant(scope + "threshold", np.array([thresholds[index]], dtype=np.float32)),
        ]
    inputs = [helper.make_tensor_value_info("image", *_kind(parts[0].graph.input[0]))] if index == 0 else []
    return helper.make_graph(nodes, scope + "graph", inputs, _result(parts, logits, exit_taken), weights)


def _leave_nodes(index: int, logits: str, exit_taken: str) -> list[NodeProto]:
    """Hand out what segment `index` says as the result."""
    helper = require("onnx", "onnx").helper
    return [
        helper.make_node("Identity", [_scope(index) + "logits"], [logits]),
        helper.make_node("Constant", [], [exit_taken], value=_constant("", np.array([index]))),
    ]


def _result(parts: Sequence[ModelProto], logits: str, exit_taken: str) -> list[ValueInfoProto]:
    """The declaration of the two outputs that every graph has."""
    onnx = require("onnx", "onnx")
    return [
        onnx.helper.make_tensor_value_info(logits, *_kind(parts[-1].graph.output[0])),
        onnx.helper.make_tensor_value_info(exit_taken, onnx.TensorProto.INT64, [1]),
    ]


def _kind(value: ValueInfoProto) -> tuple[int, list[int]]:
    """Element type and shape."""
    tensor = value.type.tensor_type
    return tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim]


def _constant(name: str, value: np.ndarray) -> TensorProto:
    return require("onnx", "onnx").numpy_helper.from_array(value, name)
