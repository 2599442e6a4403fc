"""Several networks in one ONNX graph with shared weights.

A network's kernels stand in the graph as slices of the shared tensors, multiplied by the scales of its own
folded batch norms. ONNX Runtime computes them once, when it loads the graph: each network then runs as it
does from a file of its own.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice, permutations
from typing import Any

import numpy as np
import torch
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, checker, helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from dynnas.export.switchable.sharing import LEAST_SHARED, Sharing
from dynnas.nn.layers.layers import ConvUnit
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.assembly import graphs_in, rename_uses
from dynnas.runtimes.onnx.gates import choose
from dynnas.runtimes.plain import Compilable

MEMBER = "member"


def to_switchable_onnx(
    networks: Sequence[Compilable],
    models: Sequence[ModelProto],
    sharing: Sharing,
    size: tuple[int, int] | None = None,
) -> ModelProto:
    """Return one graph of all networks, for one image.

    Inputs `image` (1, channels, H, W) float32, and `member` (1,) int64: which network runs. Outputs as
    `to_onnx`; if any network has exits, `exit` is 0 for those without.

    Args:
        networks: calibrated.
        models: of these networks, by `to_onnx`; they are of no use afterwards.
        sharing: of these networks.
        size: (H, W) of the images, from which those of each network are made; that of all networks if None.
    """
    exits = any(len(model.graph.output) > 1 for model in models)
    for number, (network, model) in enumerate(zip(networks, models, strict=True)):
        if size is not None:
            _resize(model, size)
        if exits and len(model.graph.output) == 1:
            _add_exit(model)
        if len(model.graph.output) > 1:
            model.graph.output.sort(key=lambda value: value.name != "logits")
        _share_weights(model.graph, _Sources(network, sharing, number))
    decide = _decide(models[0], len(models))
    graphs = [graph for model in models for graph in graphs_in(model.graph)]
    used = {name for graph in graphs for node in graph.node for name in node.input}
    for number, tensor in enumerate(sharing.tensors.values()):
        if _shared_name(number) in used:
            decide.graph.initializer.append(numpy_helper.from_array(tensor.numpy(), f"shared{number}"))
    for graph in graphs:
        for node in graph.node:
            node.ClearField("name")
    whole = choose(decide, models)
    checker.check_model(whole, full_check=True)
    return whole


def _shared_name(number: int) -> str:
    """Return the name of a shared tensor in the whole graph."""
    return f"decide/shared{number}"


@dataclass(frozen=True)
class _Source:
    """A tensor of a folded network as a product of a slice and scales.

    Attributes:
        name: in the network.
        scale: one number for each output channel; None for a tensor that no batch norm was folded into.
        view: its shape before axes are permuted.
        order: of its axes in the graph.
    """

    name: str
    scale: Tensor | None
    view: tuple[int, ...]
    order: tuple[int, ...]


class _Sources:
    """The sources of the constants in a network's graph."""

    def __init__(self, network: nn.Module, sharing: Sharing, member: int) -> None:
        self.names = (f"w{number}" for number in count())  # short: there are hundreds
        self.parts = sharing.parts[member]
        self.numbers = {path: number for number, path in enumerate(sharing.tensors)}
        state = sharing.state(member)
        scales = dict(_scales(network))
        self._found: dict[bytes, _Source] = {}
        for name, folded in fold_batchnorm(network).named_parameters():
            if name not in self.parts or folded.numel() < LEAST_SHARED:
                continue
            scale = scales.get(name)
            made = state[name] if scale is None else state[name] * scale[:, None, None, None]
            if not torch.equal(made, folded):
                continue
            for view in {_view(folded, 1), _view(folded, 2)}:
                for order in permutations(range(len(view))):
                    content = folded.reshape(view).permute(order).contiguous().numpy().tobytes()
                    self._found.setdefault(content, _Source(name, scale, view, order))

    def of(self, constant: TensorProto) -> _Source | None:
        """Return where a constant comes from; None if it is not shared."""
        return self._found.get(numpy_helper.to_array(constant).tobytes())


def _view(tensor: Tensor, kept: int) -> tuple[int, ...]:
    """Return the shape of a tensor with its first axes kept and the rest joined: exporters permute those."""
    return (*tensor.shape[:kept], math.prod(tensor.shape[kept:]))


def _scales(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the name of every kernel before a batch norm, and what folding multiplies its channels by."""
    for name, unit in network.named_modules():
        norm = unit.norm if isinstance(unit, ConvUnit) else None
        if isinstance(norm, nn.BatchNorm2d) and norm.running_var is not None:
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            yield f"{name}.conv.weight", scale.detach()


def _share_weights(graph: GraphProto, sources: _Sources) -> None:
    """Put slices of shared tensors in the place of constants, in branches too."""
    for inner in list(graphs_in(graph)):
        nodes: list[NodeProto] = []
        for constant in list(inner.initializer):
            source = sources.of(constant)
            if source is not None:
                inner.initializer.remove(constant)
                nodes += _slice_nodes(inner, constant, source, sources)
        for node in reversed(nodes):
            inner.node.insert(0, node)


def _slice_nodes(
    graph: GraphProto, constant: TensorProto, source: _Source, sources: _Sources
) -> list[NodeProto]:
    """Return the nodes that make `constant` of a shared tensor."""
    part = sources.parts[source.name]
    value, nodes = _shared_name(sources.numbers[part.path]), []

    def add(kind: str, *arrays: np.ndarray, **attributes: Any) -> None:
        nonlocal value
        made, *names = islice(sources.names, 1 + len(arrays))
        graph.initializer.extend(map(numpy_helper.from_array, arrays, names))
        nodes.append(helper.make_node(kind, [value, *names], [made], **attributes))
        value = made

    if part.part.starts is not None and part.part.sizes is not None:
        starts = np.array(part.part.starts)
        add("Slice", starts, starts + part.part.sizes)
    for axis, picked in part.part.picks:
        add("Gather", np.array(picked), axis=axis)
    if part.part.averaged:
        add("ReduceMean", np.arange(part.part.averaged), keepdims=0)
    if source.scale is not None:
        add("Mul", source.scale[:, None, None, None].numpy())
    if source.order != tuple(range(len(source.order))):
        add("Reshape", np.array(source.view))
        add("Transpose", perm=list(source.order))
    add("Reshape", np.array(constant.dims))
    nodes[-1].output[0] = constant.name
    return nodes


def _resize(model: ModelProto, size: tuple[int, int]) -> None:
    """Make a network's graph take images of another size, resized as `nn.layers.resize.resize` does."""
    (image,) = model.graph.input
    axes = image.type.tensor_type.shape.dim[2:]
    own = tuple(axis.dim_value for axis in axes)
    if own == size:
        return
    rename_uses(model.graph, "image", "resized")
    for axis, given in zip(axes, size, strict=True):
        axis.dim_value = given
    lines, columns = _shares(size[0], own[0]), _shares(size[1], own[1])
    arrays = {"lines": lines, "columns": np.ascontiguousarray(columns.T)}
    model.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())
    model.graph.node.insert(0, helper.make_node("MatMul", ["lines", "image"], ["resized/half"]))
    model.graph.node.insert(1, helper.make_node("MatMul", ["resized/half", "columns"], ["resized"]))


def _shares(given: int, wanted: int) -> np.ndarray:
    """Return (wanted, given): the share of each given line of pixels in each wanted one."""
    lines = torch.eye(given)[None, None]
    return F.interpolate(lines, (wanted, given), mode="bilinear", antialias=True)[0, 0].numpy()


def _add_exit(model: ModelProto) -> None:
    """Give a network without exits the output `exit`, always 0."""
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.int64), "only_exit"))
    model.graph.node.append(helper.make_node("Identity", ["only_exit"], ["exit"]))
    model.graph.output.append(helper.make_tensor_value_info("exit", TensorProto.INT64, [1]))


def _decide(like: ModelProto, members: int) -> ModelProto:
    """Return the graph from `member` to a number for each network, the largest for the one that runs."""
    names = [f"is{number}" for number in range(members)]
    nodes, constants = [], []
    for number, name in enumerate(names):
        constants.append(numpy_helper.from_array(np.array([number]), f"number{number}"))
        nodes.append(helper.make_node("Equal", [MEMBER, f"number{number}"], [f"{name}/asked"]))
        nodes.append(helper.make_node("Cast", [f"{name}/asked"], [name], to=TensorProto.FLOAT))
    graph = helper.make_graph(
        nodes,
        "decide",
        [helper.make_tensor_value_info(MEMBER, TensorProto.INT64, [1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names],
        constants,
    )
    return helper.make_model(graph, opset_imports=list(like.opset_import), ir_version=like.ir_version)
