"""Graph rewrites that reduce a gate's operators, because starting one takes as long as its work.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, helper, numpy_helper

from dynnas.runtimes.onnx.graph_index import GraphIndex, attribute, sort_and_prune
from dynnas.runtimes.onnx.packing.layout import block_size
from dynnas.runtimes.onnx.packing.rewrite_mixing import LAYOUT_DOMAIN
from dynnas.runtimes.onnx.trace import SIDE_OUTPUT_PREFIX


def subtract_votes(decide: ModelProto) -> None:
    """Fuse two logits into their difference; graphs of more logits, or of another form, stay as they are.

    Where a linear layer makes both, the part that depends on the image goes to one side, as a product, and
    the bias to the other: (w0 - w1) v >= b1 - b0. Values that were put side by side are
    taken from where they were.

    Args:
        decide: to `logit0` and `logit1`, (1,) each, and other values; not packed.
    """
    graph, view = decide.graph, GraphIndex(decide.graph)
    votes = [value.name for value in graph.output if not value.name.startswith(SIDE_OUTPUT_PREFIX)]
    split = view.producer.get(votes[0])
    if split is None or split.op_type != "Split" or [*split.output] != votes or len(votes) != 2:
        return
    maker = view.producer.get(view.origin(split.input[0]))
    if maker is not None and maker.op_type == "Gemm" and _is_linear(view, maker):
        kernel, bias = (view.constants[name] for name in maker.input[1:])
        constants = {"votes/kernel": kernel[0] - kernel[1], votes[1]: bias[1:] - bias[:1]}
        nodes = [helper.make_node("MatMul", [maker.input[0], "votes/kernel"], votes[:1])]
    elif maker is not None and maker.op_type == "Concat" and len(maker.input) == 2:
        constants = {"votes/shape": np.array([1])}
        nodes = [
            helper.make_node("Reshape", [value, "votes/shape"], [vote])
            for value, vote in zip(maker.input, votes, strict=True)
        ]
    else:
        return
    split.output[:] = [f"{name}/unused" for name in votes]
    graph.node.extend(nodes)
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    sort_and_prune(graph)


def split_in_place(decide: ModelProto) -> None:
    """Take logits from a row directly, and not from a vector; any other graph stays as it is.

    ONNX Runtime asks an `If` of any single number, OpenVINO of vectors alone.
    """
    view = GraphIndex(decide.graph)
    votes = {value.name: value for value in decide.graph.output}
    for split in decide.graph.node:
        row = view.origin(split.input[0]) if split.op_type == "Split" else ""
        maker = view.producer.get(row)
        if maker is None or maker.op_type not in ("Gemm", "MatMul") or not {*split.output} <= {*votes}:
            continue
        split.input[0] = row
        next(own for own in split.attribute if own.name == "axis").i = 1
        for name in split.output:
            votes[name].type.tensor_type.shape.dim.add().dim_value = 1
    sort_and_prune(decide.graph)


def read_as_it_lies(packed: ModelProto) -> None:
    """Let linear layers read pooled maps in the packed layout, which for one pixel is the usual order.

    The optimiser takes the padding off before them, and with broken blocks of channels before the pooling
    already. It is zeros, and kernels that have zeros there leave it out for nothing.
    """
    graph, view = packed.graph, GraphIndex(packed.graph)
    for layer in list(graph.node):
        laid_out = _laid_out(view, layer)
        if laid_out is None:
            continue
        kernel = view.constants[layer.input[1]]
        more = -kernel.shape[1] % block_size()
        pooled, flat, padded = (f"{layer.output[0]}/{name}" for name in ("pooled", "flat", "padded"))
        pool = helper.make_node("GlobalAveragePool", [laid_out], [pooled], domain=LAYOUT_DOMAIN)
        graph.node.extend([pool, helper.make_node("Flatten", [pooled], [flat], axis=1)])
        graph.initializer.append(numpy_helper.from_array(np.pad(kernel, ((0, 0), (0, more))), padded))
        layer.input[:2] = [flat, padded]
    sort_and_prune(graph)


def _is_linear(view: GraphIndex, node: NodeProto | None) -> bool:
    """Return whether a node is a linear layer of torch: constant but for its input, a row for each output."""
    if node is None or node.op_type not in ("Gemm", "FusedGemm") or len(node.input) != 3:
        return False
    rows = attribute(node, "transB") and not attribute(node, "transA")
    return bool(rows) and all(name in view.constants for name in node.input[1:])


def _laid_out(view: GraphIndex, layer: NodeProto) -> str | None:
    """Return the packed map that a linear layer reads, pooled, if it reads one."""
    if not _is_linear(view, layer):
        return None
    value, kinds = layer.input[0], ["Flatten", "GlobalAveragePool", "ReorderOutput"]
    while kinds:
        node = view.producer.get(value)
        if node is None or node.op_type not in kinds or attribute(node, "channels_last"):
            return None
        kinds.remove(node.op_type)
        value = node.input[0]
    return value
