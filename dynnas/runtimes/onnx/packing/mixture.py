"""The kernels and biases that an ONNX graph mixes or generates for each image.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto

from dynnas.runtimes.onnx.graph_index import GraphIndex

CONVOLUTIONS = ("Conv", "FusedConv")


@dataclass(frozen=True)
class Mixed:
    """The whole tensor is one mixture of M: `value`, coefficients (1, M), @ bank (M, P)."""

    value: str
    bank: np.ndarray


@dataclass(frozen=True)
class MixedByChannel:
    """Every output channel is a mixture of its own: `value`, Co * M coefficients, by bank (Co, M, P / Co)."""

    value: str
    bank: np.ndarray


@dataclass(frozen=True)
class Generated:
    """Anything else: `value` is the tensor."""

    value: str


Source = Mixed | MixedByChannel | Generated


@dataclass(frozen=True)
class DynamicInput:
    """An input of a convolution that is not constant.

    Attributes:
        node: the convolution.
        index: 1 for its kernel, 2 for its bias.
        shape: of the kernel (Co, Ci / groups, k, k) or bias (Co,).
        source: how it is made.
    """

    node: NodeProto
    index: int
    shape: tuple[int, ...]
    source: Source


def dynamic_inputs(view: GraphIndex) -> Iterator[DynamicInput]:
    """Yield every kernel and bias of a convolution that depends on the image, in the order of the graph.

    Those whose shapes the graph does not tell are left out.
    """
    for node in view.graph.node:
        if node.op_type not in CONVOLUTIONS:
            continue
        for index in range(1, len(node.input)):
            name = node.input[index]
            if name in view.constants or name not in view.shape:
                continue
            source = _source(view, name)
            if source.value in view.shape:
                yield DynamicInput(node, index, view.shape[name], source)


def _source(view: GraphIndex, name: str) -> Source:
    origin = view.origin(name)
    node = view.producer.get(origin)
    if node is None or node.op_type != "MatMul" or node.input[1] not in view.constants:
        return Generated(name)
    bank, shape = view.constants[node.input[1]], view.shape.get(node.input[0], ())
    if bank.ndim == 2 and shape == (1, len(bank)):
        return Mixed(node.input[0], bank)
    if bank.ndim == 3 and shape == (bank.shape[0], 1, bank.shape[1]):
        return MixedByChannel(view.origin(node.input[0]), bank)
    return Generated(name)
