"""The mixing of a kernel or bias, made again for the layout in which a convolution expects it.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

from dynnas.runtimes.onnx.graph_index import GraphIndex, attribute
from dynnas.runtimes.onnx.packing.layout import block_size
from dynnas.runtimes.onnx.packing.mixture import DynamicInput, Mixed, MixedByChannel

LAYOUT_DOMAIN = "com.microsoft.nchwc"
"""The domain of ONNX Runtime's operators on packed tensors."""

ELEMENTWISE = ("Sigmoid", "Tanh", "Relu", "HardSigmoid")


class MixingRewrite:
    """The nodes and constants that make one input of a convolution.

    Args:
        name: of the input.
        view: the graph around it.
        layout: the shape that the convolution expects, padded to whole blocks.
        positions: which element of the kernel or bias stands where in it, flat; -1 for padding.

    Attributes:
        nodes: in the order in which they run; the last one makes `name`.
        constants: arrays by their names.
    """

    def __init__(self, name: str, view: GraphIndex, layout: Sequence[int], positions: np.ndarray) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._name, self._view = name, view
        self._layout, self._positions = tuple(layout), positions

    def make(self, dynamic: DynamicInput) -> None:
        """Mix as `dynamic` says, or rearrange its result where that is the only way."""
        source = dynamic.source
        if isinstance(source, Mixed):
            bank = self._laid_out(source.bank)
            made = self._node("MatMul", source.value, self._constant("bank", bank))
        elif isinstance(source, MixedByChannel):
            made = self._mix_by_channel(source)
        else:
            made = self._rearranged(source.value, self._positions)
        self._node("Reshape", made, self._constant("shape", np.array(self._layout)), output=self._name)

    def _laid_out(self, bank: np.ndarray) -> np.ndarray:
        """Return the columns of `bank` (M, P) in the layout, zeros for padding."""
        return np.where(self._positions < 0, 0, bank[:, self._positions]).astype(np.float32)

    def _mix_by_channel(self, source: MixedByChannel) -> str:
        """Return the bank as an image of Co channels, M high, and the coefficients as a kernel over it.

        A packed image is (blocks, M, elements of a channel, channels of a block), so what the convolution
        gives is (blocks, elements of a channel, channels of a block): the layout of a packed kernel.
        """
        _, experts, elements = source.bank.shape
        if _in_order(self._positions):
            return self._mix_plainly(source)
        positions = self._positions.reshape(self._layout[0] // block_size(), -1, block_size())
        if not _is_by_channel(positions, elements):
            return self._rearranged(self._mix_plainly(source), self._positions)
        padding = positions < 0
        channel = np.where(padding, 0, positions // elements).max(axis=1)[:, None]
        expert = np.arange(experts)[:, None]
        bank = source.bank[channel[:, :, None], expert[:, None], (positions % elements)[:, None]]
        image = np.where(padding[:, None], 0, bank).astype(np.float32)
        kernel = self._coefficients(source.value, (channel * experts + expert).ravel())
        shape = self._constant("taps", np.array([self._layout[0], 1, experts, 1]))
        return self._node(
            "Conv",
            self._constant("bank", image.reshape(1, self._layout[0], experts, -1)),
            self._node("Reshape", kernel, shape),
            domain=LAYOUT_DOMAIN,
            group=self._layout[0],
            kernel_shape=[experts, 1],
        )

    def _mix_plainly(self, source: MixedByChannel) -> str:
        channels, experts, _ = source.bank.shape
        shape = self._constant("by_channel", np.array([channels, 1, experts]))
        coefficients = self._node("Reshape", source.value, shape)
        return self._node("MatMul", coefficients, self._constant("bank", source.bank))

    def _coefficients(self, name: str, order: np.ndarray) -> str:
        """Return the elements of value `name` in this order, computed so where a linear layer makes them."""
        node = self._view.producer.get(self._view.origin(name))
        activation = None
        if node is not None and node.op_type in ELEMENTWISE:
            activation, node = node, self._view.producer.get(node.input[0])
        constants = self._view.constants
        if node is None or node.op_type not in ("Gemm", "FusedGemm") or len(node.input) < 3:
            return self._rearranged(name, order)
        if any(tensor not in constants for tensor in node.input[1:]):
            return self._rearranged(name, order)
        weight, bias = (constants[tensor] for tensor in node.input[1:])
        weight = weight[order] if attribute(node, "transB") else weight[:, order]
        linear = self._copy(
            node, node.input[0], self._constant("weight", weight), self._constant("bias", bias[..., order])
        )
        return linear if activation is None else self._copy(activation, linear)

    def _rearranged(self, name: str, order: np.ndarray) -> str:
        if _in_order(order):
            return self._view.origin(name)  # its reader gives it a shape
        flat = self._node("Reshape", name, self._constant("flat", np.array([-1])))
        if (order < 0).any():
            flat = self._node("Concat", flat, self._constant("padding", np.zeros(1, np.float32)), axis=0)
            order = np.where(order < 0, order.max() + 1, order)
        return self._node("Gather", flat, self._constant("order", order))

    def _constant(self, what: str, array: np.ndarray) -> str:
        name = f"{self._name}/{what}"
        self.constants[name] = array
        return name

    def _node(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{self._name}/{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def _copy(self, node: NodeProto, *inputs: str) -> str:
        """Copy `node` with these inputs."""
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name, copy.input[:], copy.output[:] = "", inputs, [f"{self._name}/{len(self.nodes)}"]
        self.nodes.append(copy)
        return copy.output[0]


def _in_order(positions: np.ndarray) -> bool:
    return np.array_equal(positions, np.arange(len(positions)))


def _is_by_channel(positions: np.ndarray, elements: int) -> bool:
    """Return whether `positions` (blocks, rows, channels of a block) have one output channel a column."""
    channel = np.where(positions < 0, -1, positions // elements)
    return bool(((channel == channel.max(axis=1, keepdims=True)) | (channel < 0)).all())
