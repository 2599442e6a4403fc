"""Channels of zeros that let ONNX Runtime pack a depthwise convolution.

It does so for multiples of four channels alone, and computes others on code that takes several times as long:
9 hidden channels of a small branch took longer than all 64 of the block. Of fewer channels than a block of
the layout has, it takes the layout off again behind them. What lies between two dense convolutions may have
more channels, if the first gives zeros there and the second makes nothing of them; whole blocks are computed
in any case.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from onnx import ModelProto, NodeProto, numpy_helper

from dynnas.runtimes.onnx.graph_index import GraphIndex, attribute, sort_and_prune
from dynnas.runtimes.onnx.packing.layout import block_size

ALIGNED = 4
"""Channels of a depthwise convolution must be a multiple of this, or it is not packed."""

ELEMENTWISE = (
    *("Add", "Clip", "Elu", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Max", "Min", "Mul"),
    *("Neg", "Relu", "Selu", "Sigmoid", "Softplus", "Sub", "Tanh"),
)


def pad_depthwise(model: ModelProto) -> None:
    """Pad the values between two dense convolutions with depthwise ones between them.

    Args:
        model: a graph without branches, its kernels constants.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    if block_size() == 1:
        return
    view = GraphIndex(model.graph)
    padded: set[str] = set()
    for node in model.graph.node:
        if _is_conv(view, node) and attribute(node, "group") in (None, 1):
            padded |= _pad_after(view, node)
    if padded:
        declared = [value for value in model.graph.value_info if value.name not in padded]
        del model.graph.value_info[:]
        model.graph.value_info.extend(declared)
        sort_and_prune(model.graph)


def _pad_after(view: GraphIndex, first: NodeProto) -> set[str]:
    """Pad the values between `first` and the dense convolutions that read it.

    Those that have grown are returned.
    """
    channels = len(view.constants[first.input[1]])
    if channels % ALIGNED == 0 and channels >= block_size():
        return set()
    between, depthwise, last = {first.output[0]}, list[NodeProto](), list[NodeProto]()
    for node in view.graph.node:  # in the order in which they run
        if not between & {*node.input}:
            continue
        if _is_conv(view, node) and node.input[0] in between and not between & {*node.input[1:]}:
            group = attribute(node, "group") or 1
            if group == channels == len(view.constants[node.input[1]]):
                depthwise.append(node)
            elif group == 1:
                last.append(node)
                continue
            else:
                return set()
        elif not _is_elementwise(view, node, between):
            return set()
        between |= {*node.output}
    if not depthwise or between & {value.name for value in view.graph.output}:
        return set()
    for node in (first, *depthwise):
        for index in range(1, len(node.input)):
            _pad(view, node, index, axis=0)
        if node is not first:
            next(own for own in node.attribute if own.name == "group").i = channels + -channels % block_size()
    for node in last:
        _pad(view, node, 1, axis=1)
    return between


def _pad(view: GraphIndex, node: NodeProto, index: int, axis: int) -> None:
    """Append zeros to a kernel or bias on this axis."""
    tensor, name = view.constants[node.input[index]], f"{node.input[index]}/padded{axis}"
    ends = [(0, -size % block_size() if at == axis else 0) for at, size in enumerate(tensor.shape)]
    if name not in view.constants:
        view.constants[name] = np.pad(tensor, ends)
        view.graph.initializer.append(numpy_helper.from_array(view.constants[name], name))
    node.input[index] = name


def _is_conv(view: GraphIndex, node: NodeProto) -> bool:
    """Return whether a node is a convolution with constants."""
    return node.op_type == "Conv" and all(name in view.constants for name in node.input[1:])


def _is_elementwise(view: GraphIndex, node: NodeProto, between: Iterable[str]) -> bool:
    """Return whether a node makes each element of one element in its place, and of single numbers."""
    if node.op_type not in ELEMENTWISE:
        return False
    others = [name for name in node.input if name and name not in between]
    return all(view.constants.get(name, np.zeros(2)).size == 1 for name in others)
