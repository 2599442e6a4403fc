"""A check inside packed graphs: on processors with another layout they fail, whichever program runs them.

Imports onnx: import this module only where that is installed.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from dynnas.runtimes.onnx.assembly import graphs_in, rename_uses
from dynnas.runtimes.onnx.packing.layout import block_size
from dynnas.runtimes.onnx.packing.rewrite_mixing import LAYOUT_DOMAIN
from dynnas.runtimes.onnx.session import PACKED_FOR

CHECKED = "guard/image"


def guard(model: ModelProto) -> ModelProto:
    """Make `model` fail on processors whose layout is not this one's, and write into it what it is for.

    A constant that holds the image's shape is laid out, and the image gets the shape that stands where this
    machine's layout puts it. In another layout something else stands there, the image cannot get that shape,
    and nothing else has run. It takes a microsecond (3000 pairs of runs of a network of
    0.05 ms, with and without it in turn).

    Args:
        model: for one image, with the input `image`; it is changed. One without operators of the layout is
            right on every processor, and stays as it is.
    """
    if all(operators.domain != LAYOUT_DOMAIN for operators in model.opset_import):
        return model
    _import_what_is_used(model)
    block = block_size()
    packed_for = f"blocks of {block} channels"
    (image,) = (value for value in model.graph.input if value.name == "image")
    shape = [axis.dim_value for axis in image.type.tensor_type.shape.dim]
    rename_uses(model.graph, "image", CHECKED)
    # Two blocks of two columns: element (channel, column 1) of the first block lies at block + channel.
    numbers = np.full((1, 2 * block, 1, 2), np.prod(shape) + 1, np.float32)
    numbers[0, :4, 0, 1] = shape
    places = [(0, at // 2, 0, at % 2) for at in range(block, block + 4)]
    constants = {"numbers": numbers, "places": np.array(places)}
    model.graph.initializer.extend(
        numpy_helper.from_array(array, f"guard/{name}") for name, array in constants.items()
    )
    # Programs show the name of the operator that fails.
    name = f"this graph is packed for processors with {packed_for}, and this one has others: use model.onnx"
    nodes = [
        helper.make_node("ReorderInput", ["guard/numbers"], ["guard/laid_out"], domain=LAYOUT_DOMAIN),
        helper.make_node("GatherND", ["guard/laid_out", "guard/places"], ["guard/found"]),
        helper.make_node("Cast", ["guard/found"], ["guard/shape"], to=TensorProto.INT64),
        helper.make_node("Reshape", ["image", "guard/shape"], [CHECKED], name=name),
    ]
    for node in reversed(nodes):
        model.graph.node.insert(0, node)
    declared = model.graph.value_info.add()
    declared.CopyFrom(image)
    declared.name = CHECKED
    helper.set_model_props(model, {PACKED_FOR: packed_for})
    return model


def _import_what_is_used(model: ModelProto) -> None:
    """Drop the sets of operators that no node is of: older programs do not know their versions."""
    used = {node.domain for graph in graphs_in(model.graph) for node in graph.node} | {LAYOUT_DOMAIN}
    kept = [operators for operators in model.opset_import if operators.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)
