"""Feature maps that stay in the packed layout where one graph hands them to another.

ONNX Runtime lays maps out for its fast convolutions (see `packing`) within one graph. A network that
branches is made of many: at every `If` its maps would be laid back, handed over, and laid out again, and a
shortcut's sum that begins at the border could not be made by the convolution that ends it. So each graph is
optimised between two convolutions that change nothing, which the optimiser lays out as any other; cut off
again, they leave a graph that takes and gives laid-out maps.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, helper, numpy_helper

from dynnas.runtimes.onnx.graph_index import GraphIndex, attribute, sort_and_prune
from dynnas.runtimes.onnx.packing.layout import block_size
from dynnas.runtimes.onnx.packing.padding import ALIGNED
from dynnas.runtimes.onnx.packing.rewrite_mixing import LAYOUT_DOMAIN


class BoundaryLostError(Exception):
    """Raised when the optimiser has changed the convolution at a boundary."""


def may_give(model: ModelProto) -> bool:
    """Return whether the graph hands over maps, `features`, for which this processor has a layout."""
    for value in model.graph.output:
        if value.name == "features":
            axes = value.type.tensor_type.shape.dim
            return len(axes) == 4 and axes[1].dim_value % ALIGNED == 0 and block_size() > 1
    return False


def put_boundaries(model: ModelProto, takes: bool, gives: bool) -> None:
    """Put an identity convolution after `image`, before `features`, or both."""
    graph = model.graph
    for wanted, name, values in ((takes, "image", graph.input), (gives, "features", graph.output)):
        if not wanted:
            continue
        inner, kernel = f"{name}/inner", f"{name}/unchanged"
        for node in graph.node:
            node.input[:] = [inner if own == name else own for own in node.input]
            node.output[:] = [inner if own == name else own for own in node.output]
        ends = (name, inner) if name == "image" else (inner, name)
        channels = _channels(values, name).dim_value
        graph.initializer.append(numpy_helper.from_array(np.ones((channels, 1, 1, 1), np.float32), kernel))
        graph.node.append(helper.make_node("Conv", [ends[0], kernel], [ends[1]], group=channels))
    sort_and_prune(graph)


def cut_boundaries(model: ModelProto, takes: bool, gives: bool) -> bool:
    """Remove what `put_boundaries` put into a graph that was then optimised.

    Its inputs and outputs are now packed maps.

    Returns:
        Whether what it gives is made so, and not rearranged for the sake of the border.

    Raises:
        BoundaryLostError: what was put there cannot be found any more.
    """
    graph, view = model.graph, GraphIndex(model.graph)
    made_so = True
    if gives:
        channels = _channels(graph.output, "features")
        back = _expected(view.producer.get("features"), "ReorderOutput")
        inner = _unchanging(view, view.producer.get(back.input[0]), channels.dim_value).input[0]
        maker = view.producer.get(inner)
        made_so = maker is None or maker.op_type != "ReorderInput"
        back.CopyFrom(helper.make_node("Identity", [inner], ["features"]))
        channels.dim_value = _padded(channels.dim_value)
    if takes:
        channels = _channels(graph.input, "image")
        laid_out = _expected(_only_reader(graph, "image"), "ReorderInput")
        unchanging = _unchanging(view, _only_reader(graph, laid_out.output[0]), channels.dim_value)
        unchanging.CopyFrom(helper.make_node("Identity", ["image"], [unchanging.output[0]]))
        channels.dim_value = _padded(channels.dim_value)
    sort_and_prune(graph)
    return made_so


def _expected(node: NodeProto | None, kind: str) -> NodeProto:
    if node is None or node.domain != LAYOUT_DOMAIN or node.op_type != kind:
        found = node.op_type if node else "nothing"
        raise BoundaryLostError(f"a {kind} is expected at the border, not {found}")
    return node


def _unchanging(view: GraphIndex, node: NodeProto | None, channels: int) -> NodeProto:
    """Return the convolution at a boundary, if it is still an identity and adds nothing."""
    node = _expected(node, "Conv")
    kernel = view.constants.get(node.input[1])
    ones = kernel is not None and np.isin(kernel, (0, 1)).all() and kernel.sum() == channels  # padded with 0
    if not ones or len(node.input) > 2 or attribute(node, "activation"):
        raise BoundaryLostError("the optimiser has joined something to the convolution at the border")
    return node


def _only_reader(graph: GraphProto, name: str) -> NodeProto | None:
    readers = [node for node in graph.node if name in node.input]
    return readers[0] if len(readers) == 1 else None


def _channels(values: Iterable[ValueInfoProto], name: str) -> TensorShapeProto.Dimension:
    """Return the second axis of a declared value."""
    return next(value for value in values if value.name == name).type.tensor_type.shape.dim[1]


def _padded(channels: int) -> int:
    """Round up to whole blocks, as packed maps lie in memory."""
    return -(-channels // block_size()) * block_size()
