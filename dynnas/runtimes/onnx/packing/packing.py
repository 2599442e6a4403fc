"""Packing of ONNX graphs for this processor, also with kernels that are mixed for each image.

When ONNX Runtime loads a graph, it rearranges constant kernels for the processor's vector registers (blocks
of 8 or 16 channels, called NCHWc), and keeps the feature maps between such convolutions in that layout too.
A convolution whose kernel is mixed for each image gets none of it: it runs on slower code, and the maps
around it are rearranged back and forth. A layer of CondConv takes 1.7 times as long as a static one so, a
depthwise one 2 to 6 times (`tests/bench/packing.py`).

So the optimiser is given constants in the place of the mixed kernels, whose elements say where in the kernel
they stand. Where it has moved them tells the layout that the convolution now expects, and the mixing is put
back with its bank in that layout: nothing is rearranged for an image. The layer then takes 1.13 times as long
as a static one, in the median of shapes of 14x14 and more.

- One mixture for the whole kernel (CondConv, DY-CNN): the columns of the bank are rearranged.
- A mixture for each output channel (DyNet): channels are the innermost axis of the layout, so the mixing is
  itself a depthwise convolution over the bank, M taps high, with the coefficients as its kernel.
- Any other kernel made for each image is rearranged at run time, if it is a depthwise one. In a
  trial ONNX Runtime moved only 150 million elements a second: larger kernels would lose by it.
- Numbers that channels are multiplied by (squeeze-and-excitation) become the kernel of a depthwise
  convolution: a broadcast product would take the maps out of the layout.

Depthwise convolutions of few or odd numbers of channels are padded (`padding`), and linear layers read
pooled maps as they lie (`gate_logits`).

Such a graph is for ONNX Runtime on processors with the same registers, and fails on others (`guard`);
`to_onnx` runs anywhere.
Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper, shape_inference

from dynnas.runtimes.onnx.gate_logits import read_as_it_lies, split_in_place
from dynnas.runtimes.onnx.graph_index import GraphIndex, attribute, sort_and_prune
from dynnas.runtimes.onnx.packing.layout import (
    MOST_ELEMENTS,
    MOST_NUMBERS,
    block_size,
    number_of,
    numbered,
    optimise,
    positions,
)
from dynnas.runtimes.onnx.packing.layout_boundaries import cut_boundaries, may_give, put_boundaries
from dynnas.runtimes.onnx.packing.mixture import CONVOLUTIONS, DynamicInput, Generated, dynamic_inputs
from dynnas.runtimes.onnx.packing.padding import ALIGNED, pad_depthwise
from dynnas.runtimes.onnx.packing.rewrite_mixing import MixingRewrite


def pack(model: ModelProto) -> ModelProto:
    """Return `model` optimised for this processor, with dynamic kernels laid out as the others are.

    Args:
        model: a graph without branches, for one image.

    Returns:
        A graph with the same inputs and outputs; `model` itself, padded, if nothing in it is dynamic.

    Raises:
        MissingExtraError: onnxruntime is not installed.
    """
    pad_depthwise(model)
    split_in_place(model)
    mixed = _mixed(model)
    if mixed is None:
        return model
    read_as_it_lies(mixed)
    return mixed


def pack_between(model: ModelProto, takes: bool, gives: bool | None) -> tuple[ModelProto, bool]:
    """Pack a part of a network that hands its maps to another: see `layout_boundaries`.

    Args:
        model: from `image` to its outputs.
        takes: whether `image` comes laid out.
        gives: whether to lay `features` out; None for what is natural to the graph.

    Returns:
        The graph, and whether its `features` are laid out.

    Raises:
        BoundaryLostError: the optimiser has changed what stands at a border.
        MissingExtraError: onnxruntime is not installed.
    """
    wanted = may_give(model) if gives is None else gives
    if not (takes or wanted):
        return pack(model), False
    pad_depthwise(model)
    split_in_place(model)
    bordered = ModelProto()
    bordered.CopyFrom(model)
    put_boundaries(bordered, takes, wanted)
    packed = _mixed(bordered) or optimise(bordered, "ORT_ENABLE_ALL")
    made_so = cut_boundaries(packed, takes, wanted)
    if wanted and gives is None and not made_so:
        return pack_between(model, takes, False)
    read_as_it_lies(packed)
    return packed, wanted


def _mixed(model: ModelProto) -> ModelProto | None:
    """Return `model` optimised with its dynamic kernels; None if there are none, or one got lost."""
    plain = shape_inference.infer_shapes(optimise(model, "ORT_ENABLE_BASIC"), data_prop=True)
    _scale_by_convolution(plain)
    inputs = [dynamic for dynamic in dynamic_inputs(GraphIndex(plain.graph)) if _is_worth_packing(dynamic)]
    inputs = inputs[:MOST_NUMBERS]
    if not inputs:
        return None
    for number, dynamic in enumerate(inputs):
        _put_stand_in(plain, number, dynamic)
    _keep_alive(plain, inputs)
    _pool_globally(plain)
    packed = optimise(plain, "ORT_ENABLE_ALL")
    if not _put_mixing_back(packed, inputs):
        return None
    del packed.graph.output[len(model.graph.output) :]
    sort_and_prune(packed.graph)
    return packed


def _is_worth_packing(dynamic: DynamicInput) -> bool:
    if not 0 < np.prod(dynamic.shape) < MOST_ELEMENTS:
        return False
    depthwise = len(dynamic.shape) == 1 or dynamic.shape[1] == 1
    return depthwise or not isinstance(dynamic.source, Generated)


def _put_stand_in(model: ModelProto, number: int, dynamic: DynamicInput) -> None:
    name = f"stand_in_{number}"
    model.graph.initializer.append(numpy_helper.from_array(numbered(dynamic.shape, number), name))
    dynamic.node.input[dynamic.index] = name


def _keep_alive(model: ModelProto, inputs: Sequence[DynamicInput]) -> None:
    """Declare the inputs of the mixing as outputs: with the stand-ins in place nothing else uses them."""
    declared = {value.name: value for value in model.graph.value_info}
    model.graph.output.extend(
        declared[name] for name in dict.fromkeys(dynamic.source.value for dynamic in inputs)
    )


def _pool_globally(model: ModelProto) -> None:
    """Turn means over height and width into global pooling, which has a kernel for the packed layout."""
    view = GraphIndex(model.graph)
    for node in model.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2:
            continue
        axes = view.constants.get(node.input[1])
        shape = view.shape.get(node.input[0], ())
        if axes is None or len(shape) != 4 or sorted(axes % 4) != [2, 3]:
            continue
        pooled = helper.make_node("GlobalAveragePool", [node.input[0]], [f"{node.output[0]}/pooled"])
        if attribute(node, "keepdims") == 0:
            rest = helper.make_node("Flatten", [pooled.output[0]], [node.output[0]], axis=1)
        else:
            rest = helper.make_node("Identity", [pooled.output[0]], [node.output[0]])
        node.CopyFrom(rest)
        model.graph.node.append(pooled)
    sort_and_prune(model.graph)


def _scale_by_convolution(model: ModelProto) -> None:
    """Turn products of a map and one number per channel into convolutions, which keep the layout."""
    if block_size() == 1:
        return
    view = GraphIndex(model.graph)
    for node in list(model.graph.node):
        if node.op_type != "Mul":
            continue
        shapes = [view.shape.get(name, ()) for name in node.input]
        for maps, numbers in ((0, 1), (1, 0)):
            channels = shapes[maps][1] if len(shapes[maps]) == 4 else 0
            if shapes[numbers] != (1, channels, 1, 1) or shapes[maps][2:] == (1, 1) or channels % ALIGNED:
                continue
            kernel, shape = f"{node.output[0]}/kernel", f"{node.output[0]}/shape"
            axes = [channels, 1, 1, 1]
            model.graph.initializer.append(numpy_helper.from_array(np.array(axes), shape))
            model.graph.value_info.append(helper.make_tensor_value_info(kernel, TensorProto.FLOAT, axes))
            model.graph.node.append(helper.make_node("Reshape", [node.input[numbers], shape], [kernel]))
            inputs = [node.input[maps], kernel]
            node.CopyFrom(helper.make_node("Conv", inputs, [*node.output], group=channels))
            break
    sort_and_prune(model.graph)


def _put_mixing_back(packed: ModelProto, inputs: Sequence[DynamicInput]) -> bool:
    """Replace every stand-in by its mixture.

    Return False, with the model unusable, if one cannot be found.
    """
    view = GraphIndex(packed.graph)
    left = dict(enumerate(inputs))
    for node in list(packed.graph.node):
        if node.op_type not in CONVOLUTIONS:
            continue
        for index in (1, 2):
            layout = view.constants.get(node.input[index]) if index < len(node.input) else None
            number = None if layout is None else number_of(layout)
            if layout is None or number not in left:
                continue
            node.input[index] = f"dynamic_{number}"
            graft = MixingRewrite(node.input[index], view, layout.shape, positions(layout, number))
            graft.make(left.pop(number))
            packed.graph.node.extend(graft.nodes)
            packed.graph.initializer.extend(
                numpy_helper.from_array(array, name) for name, array in graft.constants.items()
            )
    return not left
