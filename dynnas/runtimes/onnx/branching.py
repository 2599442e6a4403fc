"""Graphs that run one part after another until one is confident; skipped parts do not run.

The parts are the segments of a network with exits, or the networks of a cascade. Imports onnx: import this
module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

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
    """Return one model that runs segment after segment until one is confident.

    Args:
        parts: a model for each segment, all of one opset, from `image` (or the features of the segment
            before) to `logits` (1, classes) and, except for the last, `features`. One that gives its
            `sureness` (1,) too is decided on by that, others by their largest softmax.
        thresholds: of every exit.

    Returns:
        A model from `image` to `logits` (1, classes) and `exit` (1,) int64.
    """

    def feed(graph: GraphProto, index: int) -> None:
        source = f"segment{index - 1}/features" if index else "image"
        graph.node.append(make_node("Identity", [source], [f"segment{index}/image"]))

    kind, shape = _kind(parts[0].graph.input[0])
    return _Branching("segment", parts, thresholds, feed).model(make_tensor_value_info("image", kind, shape))


def join_networks(
    parts: Sequence[ModelProto],
    thresholds: Sequence[float],
    resizing: Sequence[tuple[np.ndarray, np.ndarray] | None],
    size: tuple[int, int],
) -> ModelProto:
    """Return one model that runs network after network, each on the image, until one is confident.

    Args:
        parts: a model for each network, all of one opset, from `image` to `logits` (1, ...). One that gives
            its `sureness` (1,) too is decided on by that, others by their largest softmax; what else they
            give is not used.
        thresholds: of all networks but the last.
        resizing: for each network (new, old), of each old line of pixels in each new one, along the height
            and along the width; None where the image is as the network takes it.
        size: height and width of the image.

    Returns:
        A model from `image` to `logits` (1, ...) and `exit` (1,) int64: which network these are of.
    """

    def feed(graph: GraphProto, index: int) -> None:
        weights, scope = resizing[index], f"network{index}/"
        if weights is None:
            graph.node.append(make_node("Identity", ["image"], [scope + "image"]))
            return
        lines, columns, half = scope + "lines", scope + "columns", scope + "half"
        graph.initializer.append(numpy_helper.from_array(weights[0], lines))
        graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(weights[1].T), columns))
        graph.node.append(make_node("MatMul", [lines, "image"], [half]))
        graph.node.append(make_node("MatMul", [half, columns], [scope + "image"]))

    kind, shape = _kind(parts[0].graph.input[0])
    image = make_tensor_value_info("image", kind, [*shape[:2], *size])
    return _Branching("network", parts, thresholds, feed).model(image)


def shape_of(part: ModelProto, name: str) -> list[int]:
    """Return the shape of an output of a model."""
    return next(_kind(value)[1] for value in part.graph.output if value.name == name)


def add_sureness(part: ModelProto, sureness: ModelProto) -> None:
    """Let a model that gives `logits` give its `sureness` (1,) too, by a model from `output` to that."""
    scope = "sureness/"
    compose.add_prefix(sureness, scope, inplace=True)
    part.graph.node.append(make_node("Identity", ["logits"], [f"{scope}output"]))
    part.graph.node.extend(sureness.graph.node)
    part.graph.node.append(make_node("Identity", [f"{scope}sureness"], ["sureness"]))
    part.graph.initializer.extend(sureness.graph.initializer)
    part.graph.output.append(make_tensor_value_info("sureness", TensorProto.FLOAT, [1]))


@dataclass(frozen=True)
class _Branching:
    """Joins parts; every part but the last ends in an `If`.

    One branch hands out the logits at hand, the other holds all that follows.

    Attributes:
        word: what the names of a part's values begin with, before its number.
        parts, thresholds: as above.
        feed: puts what makes `{word}{index}/image` into a graph.
    """

    word: str
    parts: Sequence[ModelProto]
    thresholds: Sequence[float]
    feed: Callable[[GraphProto, int], None]

    def model(self, image: ValueInfoProto) -> ModelProto:
        """Return the model from `image` to `logits` and `exit`.

        The parts can no longer be used by themselves.
        """
        for index, part in enumerate(self.parts):
            # An inner graph sees the names of those around it: each part's get a prefix of their own.
            compose.add_prefix(part, self._scope(index), inplace=True)
        graph = make_graph([], "network", [image], self._results("logits", "exit"))
        self._add_part(graph, 0)
        operators = {domain.domain: domain for part in self.parts for domain in part.opset_import}
        model = make_model(graph, producer_name="dynnas", opset_imports=list(operators.values()))
        model.ir_version = max(part.ir_version for part in self.parts)
        checker.check_model(model, full_check=True)
        return model

    def _scope(self, index: int) -> str:
        return f"{self.word}{index}/"

    def _add_part(self, graph: GraphProto, index: int) -> None:
        """Put part `index` and all after it into `graph`, which declares the results."""
        scope = self._scope(index)
        results = [value.name for value in graph.output]
        self.feed(graph, index)
        graph.node.extend(self.parts[index].graph.node)
        graph.initializer.extend(self.parts[index].graph.initializer)
        if index == len(self.thresholds):
            graph.node.extend(self._leave(index, *results))
            return

        early = [scope + "early_logits", scope + "early_exit"]
        leave = make_graph(self._leave(index, *early), scope + "leave", [], self._results(*early))
        late = [scope + "late_logits", scope + "late_exit"]
        go_on = make_graph([], scope + "go_on", [], self._results(*late))
        self._add_part(go_on, index + 1)

        threshold = np.array([self.thresholds[index]], dtype=np.float32)
        graph.initializer.append(numpy_helper.from_array(threshold, scope + "threshold"))
        sureness, confident = self._sureness(graph, index), scope + "confident"
        graph.node.extend(
            [
                make_node("GreaterOrEqual", [sureness, scope + "threshold"], [confident]),
                make_node("If", [confident], results, then_branch=leave, else_branch=go_on),
            ]
        )

    def _sureness(self, graph: GraphProto, index: int) -> str:
        """Return the name of the confidence of part `index`.

        It is computed in the graph if the part does not give it.
        """
        scope = self._scope(index)
        if any(value.name == scope + "sureness" for value in self.parts[index].graph.output):
            return scope + "sureness"
        softmax, confidence = scope + "softmax", scope + "confidence"
        axes = numpy_helper.from_array(np.array([1]), scope + "axes")
        graph.initializer.append(axes)
        graph.node.append(make_node("Softmax", [scope + "logits"], [softmax], axis=1))
        graph.node.append(make_node("ReduceMax", [softmax, axes.name], [confidence], keepdims=0))
        return confidence

    def _leave(self, index: int, logits: str, exit_taken: str) -> list[NodeProto]:
        """Return the outputs of part `index` from the graph."""
        number = numpy_helper.from_array(np.array([index]))
        return [
            make_node("Identity", [self._scope(index) + "logits"], [logits]),
            make_node("Constant", [], [exit_taken], value=number),
        ]

    def _results(self, logits: str, exit_taken: str) -> list[ValueInfoProto]:
        """Return the two outputs that every graph declares, under these names."""
        return [
            make_tensor_value_info(logits, *_kind(self.parts[-1].graph.output[0])),
            make_tensor_value_info(exit_taken, TensorProto.INT64, [1]),
        ]


def _kind(value: ValueInfoProto) -> tuple[int, list[int]]:
    """Return element type and shape."""
    tensor = value.type.tensor_type
    return tensor.elem_type, [axis.dim_value for axis in tensor.shape.dim]
