"""The segments of a network with exits, exported one by one, joined into one graph that really branches.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import (
    GraphProto,
    ModelProto,
    NodeProto,
    TensorProto,
    ValueInfoProto,
    checker,
    compose,
    numpy_helper,
)
from onnx.helper import make_graph, make_model, make_node, make_tensor_value_info


def join_segments(parts: Sequence[ModelProto], thresholds: Sequence[float]) -> ModelProto:
    """One model that runs segment after segment until one is confident.

    Every exit is an `If`: one branch hands out the logits at hand, the other holds all the rest of the
    network, so that what is skipped does not run.

    Args:
        parts: a model for each segment, all of one opset, from `image` (or the features of the segment
            before) to `logits` (1, classes) and, except for the last, `features`.
        thresholds: of every exit; the confidence is the largest softmax.

    Returns:
        A model from `image` to `logits` (1, classes) and `exit` (1,) int64.
    """
    for index, part in enumerate(parts):
        # An inner graph sees the names of those around it: each segment's get a prefix of their own.
        compose.add_prefix(part, _scope(index), inplace=True)
    graph = make_graph(
        [make_node("Identity", ["image"], [_scope(0) + "image"])],
        "network",
        [make_tensor_value_info("image", *_kind(parts[0].graph.input[0]))],
        _results(parts, "logits", "exit"),
    )
    _add_segment(graph, 0, parts, thresholds)
    operators = {domain.domain: domain for part in parts for domain in part.opset_import}
    model = make_model(graph, producer_name="dynnas", opset_imports=list(operators.values()))
    model.ir_version = parts[0].ir_version
    checker.check_model(model, full_check=True)
    return model


def _scope(index: int) -> str:
    return f"segment{index}/"


def _add_segment(
    graph: GraphProto, index: int, parts: Sequence[ModelProto], thresholds: Sequence[float]
) -> None:
    """Put segment `index` and all after it into `graph`, which has its input and declares the results."""
    scope = _scope(index)
    results = [value.name for value in graph.output]
    graph.node.extend(parts[index].graph.node)
    graph.initializer.extend(parts[index].graph.initializer)
    if index == len(thresholds):
        graph.node.extend(_leave(index, *results))
        return

    early = [scope + "early_logits", scope + "early_exit"]
    leave = make_graph(_leave(index, *early), scope + "leave", [], _results(parts, *early))
    late = [scope + "late_logits", scope + "late_exit"]
    hand_on = make_node("Identity", [scope + "features"], [_scope(index + 1) + "image"])
    go_on = make_graph([hand_on], scope + "go_on", [], _results(parts, *late))
    _add_segment(go_on, index + 1, parts, thresholds)

    axes = numpy_helper.from_array(np.array([1]), scope + "axes")
    threshold = numpy_helper.from_array(np.array([thresholds[index]], dtype=np.float32), scope + "threshold")
    softmax, confidence, confident = scope + "softmax", scope + "confidence", scope + "confident"
    graph.initializer.extend([axes, threshold])
    graph.node.extend(
        [
            make_node("Softmax", [scope + "logits"], [softmax], axis=1),
            make_node("ReduceMax", [softmax, axes.name], [confidence], keepdims=0),
            make_node("GreaterOrEqual", [confidence, threshold.name], [confident]),
            make_node("If", [confident], results, then_branch=leave, else_branch=go_on),
        ]
    )


def _leave(index: int, logits: str, exit_taken: str) -> list[NodeProto]:
    """Hand out what segment `index` says."""
    number = numpy_helper.from_array(np.array([index]))
    return [
        make_node("Identity", [_scope(index) + "logits"], [logits]),
        make_node("Constant", [], [exit_taken], value=number),
    ]


def _results(parts: Sequence[ModelProto], logits: str, exit_taken: str) -> list[ValueInfoProto]:
    """The two outputs that every graph declares, under these names."""
    return [
        make_tensor_value_info(logits, *_kind(parts[-1].graph.output[0])),
        make_tensor_value_info(exit_taken, TensorProto.INT64, [1]),
    ]


def _kind(value: ValueInfoProto) -> tuple[int, list[int]]:
    """Element type and shape."""
    tensor = value.type.tensor_type
    return tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim]
