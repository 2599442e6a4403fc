"""Convolutions and poolings, of values whose channels lie last.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from ai_edge_litert.schema_py_generated import Padding

from dynnas.runtimes.litert.flatbuffer import Options, Scale
from dynnas.runtimes.litert.graph import Graph, Input, Value, constant, lacking
from dynnas.runtimes.litert.layout import CHANNELS_LAST
from dynnas.runtimes.litert.operators.elementwise import binary
from dynnas.runtimes.litert.operators.matrices import multiplied
from dynnas.runtimes.litert.operators.node import Node, Writer
from dynnas.runtimes.litert.operators.padding import filled
from dynnas.runtimes.litert.operators.shapes import joined, sliced

DEPTHWISE = (1, 2, 3, 0)
"""The order of the kernels (channels, 1, height, width) of a depthwise convolution."""

LOWEST = np.float32(np.finfo(np.float32).min)


@dataclass(frozen=True)
class _Window:
    """The places of a kernel over an image, along height and width.

    Attributes:
        kernel, strides, dilations: along each.
        before, after: how far it reaches over the edges.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]

    @staticmethod
    def of(node: Node, kernel: Sequence[int]) -> _Window:
        """Return that of a node; in one dimension, along a height of 1."""
        axes = len(kernel)
        pads = node.get("pads", [0] * 2 * axes)
        if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            raise lacking(f"{node.kind} whose padding is told by auto_pad")
        strides, dilations = (list(node.get(name, [1] * axes)) for name in ("strides", "dilations"))
        first = [1] * (2 - axes), [0] * (2 - axes)
        return _Window(
            (*first[0], *kernel),
            (*first[0], *strides),
            (*first[0], *dilations),
            (*first[1], *pads[:axes]),
            (*first[1], *pads[axes:]),
        )

    @property
    def reach(self) -> list[int]:
        """The length of the kernel with its gaps."""
        return [(size - 1) * gap + 1 for size, gap in zip(self.kernel, self.dilations, strict=True)]

    def sizes(self, given: Sequence[int], up: bool = False) -> tuple[int, ...]:
        """Return the height and width that it makes of one; `up` rounds up."""
        made = []
        for size, reach, stride, before, after in zip(
            given, self.reach, self.strides, self.before, self.after, strict=True
        ):
            room = size + before + after - reach
            steps = -(-room // stride) if up else room // stride
            if up and steps * stride >= size + before:  # a window must begin within the image
                steps -= 1
            made.append(steps + 1)
        return tuple(made)

    def fitted(self, given: Sequence[int], made: Sequence[int]) -> _Window:
        """Return the window with as much padding behind the image as its steps reach."""
        sides = zip(made, self.strides, self.reach, given, self.before, strict=True)
        after = ((steps - 1) * step + reach - size - before for steps, step, reach, size, before in sides)
        return replace(self, after=tuple(max(0, each) for each in after))

    def is_same(self, given: Sequence[int]) -> bool:
        """Return whether LiteRT's padding `SAME` is that of this window."""
        for axis, size in enumerate(given):
            steps = -(-size // self.strides[axis])
            whole = max(0, (steps - 1) * self.strides[axis] + self.reach[axis] - size)
            if (whole // 2, whole - whole // 2) != (self.before[axis], self.after[axis]):
                return False
        return True


def _as_map(graph: Graph, x: Value) -> Value:
    """Return a value (N, C, H, W) with its channels last; one of (N, C, L) with a height of 1."""
    if x.rank == 3:
        x = graph.reshaped(x, (*x.shape[:2], 1, x.shape[2]))
    if x.rank != 4:
        raise lacking(f"convolutions and poolings over {x.rank - 2} axes")
    return graph.arranged(x, CHANNELS_LAST)


def _as_before(graph: Graph, made: Value, x: Value) -> Value:
    return graph.reshaped(made, (*made.shape[:2], made.shape[3])) if x.rank == 3 else made


def padded(graph: Graph, x: Value, before: Sequence[int], after: Sequence[int], value: float = 0.0) -> Value:
    """Return a map (N, C, H, W) with rows and columns around it."""
    return filled(graph, x, [(0, 0), (0, 0), *zip(before, after, strict=True)], value)


def _prepared(graph: Graph, x: Value, window: _Window, fill: float = 0.0) -> tuple[Value, int]:
    """Return a map padded as far as LiteRT does not do it, and the padding that it does."""
    if not any((*window.before, *window.after)):
        return x, Padding.VALID
    if window.is_same(x.shape[2:]):
        return x, Padding.SAME
    return padded(graph, x, window.before, window.after, fill), Padding.VALID


def _geometry(window: _Window, padding: int) -> dict[str, Any]:
    (high, wide), (down, right) = window.strides, window.dilations
    strides, gaps = {"strideH": high, "strideW": wide}, {"dilationHFactor": down, "dilationWFactor": right}
    return {"padding": padding, **strides, **gaps}


def convolved(graph: Graph, node: Node, scale: Scale | None = None) -> Value:
    """Return the convolution of a node, in whole numbers of a scale if its inputs are."""
    x, weight, bias = node[0], node[1], node.optional(2)
    if weight.rank == 3:
        weight = graph.reshaped(weight, (*weight.shape[:2], 1, weight.shape[2]))
    window = _Window.of(node, node[1].shape[2:])
    image = _as_map(graph, x)
    channels, groups = image.shape[1], node.get("group", 1)
    sizes = window.sizes(image.shape[2:])
    if weight.data is None and groups == 1 and image.shape[0] == 1:
        return _as_before(graph, _by_product(graph, image, weight, bias, window, sizes), x)
    window, shape = window.fitted(image.shape[2:], sizes), (image.shape[0], weight.shape[0], *sizes)
    ready, padding = _prepared(graph, image, window)
    bias = constant(np.zeros(weight.shape[0], np.float32)) if bias is None else graph.plain(bias)
    fields = _geometry(window, padding)
    if groups == channels and weight.shape[1] == 1 and groups > 1:
        weight = graph.arranged(weight, DEPTHWISE)
        options = Options("DepthwiseConv2DOptions", depthMultiplier=weight.shape[0] // channels, **fields)
        code = "DEPTHWISE_CONV_2D"
    else:
        weight, code = graph.arranged(weight, CHANNELS_LAST), "CONV_2D"
        options = Options("Conv2DOptions", **fields)
    inputs: list[Input] = [ready, weight, bias]
    made = graph.emit(code, inputs, shape, x.dtype, CHANNELS_LAST, options, scale)
    return _as_before(graph, made, x)


def _by_product(
    graph: Graph, image: Value, weight: Value, bias: Value | None, window: _Window, sizes: tuple[int, ...]
) -> Value:
    """Convolve by a kernel that depends on the image, as a product of matrices.

    XNNPACK convolves by constant kernels alone, and LiteRT's own convolution takes twice as long or longer:
    it is faster to put what the kernel sees of the image side by side.

    Args:
        image: (1, Ci, H, W). weight: (Co, Ci, height, width). bias: (Co,).
        window: of the kernel. sizes: the height and width that it makes.
    """
    sides = zip(image.shape[2:], window.reach, window.strides, sizes, window.before, strict=True)
    after = [max(0, reach - 1 + step * made - size - before) for size, reach, step, made, before in sides]
    if any((*window.before, *after)):
        image = padded(graph, image, window.before, after)
    for axis in (1, 0):  # kernels lie by rows, and their columns within
        image = _side_by_side(graph, image, window, axis, sizes[axis])
    seen = graph.reshaped(graph.transposed(image, (0, 2, 3, 1)), (sizes[0] * sizes[1], image.shape[1]))
    rows = graph.transposed(graph.arranged(weight, CHANNELS_LAST), (0, 2, 3, 1))
    made = multiplied(
        graph, seen, graph.transposed(graph.reshaped(rows, (rows.shape[0], image.shape[1])), (1, 0))
    )
    made = made if bias is None else binary(graph, "ADD", made, bias)
    return graph.transposed(graph.reshaped(made, (1, *sizes, rows.shape[0])), (0, 3, 1, 2))


def _side_by_side(graph: Graph, image: Value, window: _Window, axis: int, count: int) -> Value:
    """Return a map with what each point of the kernel along an axis sees, as more channels."""
    step, parts = window.strides[axis], []
    for point in range(window.kernel[axis]):
        begins, lengths = [0] * 4, [*image.shape]
        begins[axis + 2], lengths[axis + 2] = point * window.dilations[axis], count * step
        part = sliced(graph, image, begins, lengths)
        if step > 1:
            lines = [*part.shape[: axis + 2], count, step, *part.shape[axis + 3 :]]
            first = [size if place != axis + 3 else 1 for place, size in enumerate(lines)]
            part = sliced(graph, graph.reshaped(part, lines), [0] * 5, first)
            part = graph.reshaped(part, [*image.shape[: axis + 2], count, *image.shape[axis + 3 :]])
        parts.append(part)
    return joined(graph, parts, 1)


def _conv_transpose(graph: Graph, node: Node) -> Value:
    x, weight, bias = node[0], node[1], node.optional(2)
    if x.rank != 4 or weight.data is None or node.get("group", 1) != 1:
        raise lacking("ConvTranspose of groups, along one axis, or with a kernel that depends on the image")
    window = _Window.of(node, weight.shape[2:])
    if any(gap != 1 for gap in window.dilations):
        raise lacking("ConvTranspose with gaps in its kernel")
    image = _as_map(graph, x)
    whole = [(s - 1) * t + r for s, t, r in zip(image.shape[2:], window.strides, window.reach, strict=True)]
    more = node.get("output_padding", [0, 0])
    sides = zip(whole, window.before, window.after, more, strict=True)
    sizes = [size - before - after + extra for size, before, after, extra in sides]
    if any(extra > after for extra, after in zip(more, window.after, strict=True)):
        raise lacking("ConvTranspose whose output_padding exceeds its padding")
    kernel = graph.arranged(graph.transposed(weight, (1, 0, 2, 3)), CHANNELS_LAST)
    full = (x.shape[0], weight.shape[1], *whole)
    (high, wide) = window.strides
    options = Options("TransposeConvOptions", padding=Padding.VALID, strideH=high, strideW=wide)
    inputs: list[Input] = [np.array([full[0], *whole, full[1]], np.int32), kernel, image]
    inputs.append(constant(np.zeros(full[1], np.float32)) if bias is None else bias)
    made = graph.emit("TRANSPOSE_CONV", inputs, full, order=CHANNELS_LAST, options=options)
    if sizes == whole:
        return made
    begin, size = np.array([0, *window.before, 0], np.int32), np.array([full[0], *sizes, full[1]], np.int32)
    shape = (*full[:2], *sizes)
    options = Options("SliceOptions")
    return graph.emit("SLICE", [made, begin, size], shape, order=CHANNELS_LAST, options=options)


def _pool(graph: Graph, node: Node) -> Value:
    x = node[0]
    window = _Window.of(node, node.get("kernel_shape", ()))
    if any(gap != 1 for gap in window.dilations) or node.outputs > 1:
        raise lacking(f"{node.kind} with gaps in its window, or that says where the largest values are")
    image = _as_map(graph, x)
    given = image.shape[2:]
    sizes = window.sizes(given, bool(node.get("ceil_mode", 0)))
    whole = window.fitted(given, sizes)
    largest = node.kind == "MaxPool"
    counts_padding = bool(node.get("count_include_pad", 0))
    shape = (*image.shape[:2], *sizes)
    if largest or not counts_padding:
        ready, padding = _prepared(graph, image, whole, float(LOWEST) if largest else 0.0)
    elif any((*whole.before, *whole.after)):
        ready, padding = padded(graph, image, whole.before, whole.after), Padding.VALID
    else:
        ready, padding = image, Padding.VALID
    (high, wide), (rows, columns) = whole.strides, whole.kernel
    options = Options(
        "Pool2DOptions", padding=padding, strideH=high, strideW=wide, filterHeight=rows, filterWidth=columns
    )
    code = "MAX_POOL_2D" if largest else "AVERAGE_POOL_2D"
    made = graph.emit(code, [ready], shape, order=CHANNELS_LAST, options=options)
    if not largest and padding == Padding.VALID:
        share = _counted(window, sizes, given, counts_padding)
        if not np.allclose(share, 1):
            made = binary(graph, "MUL", made, constant(share))
    return _as_before(graph, made, x)


def _counted(window: _Window, sizes: Sequence[int], given: Sequence[int], padding: bool) -> np.ndarray:
    """Return by what means over whole windows are multiplied, so that they are those over what counts.

    Args:
        window: with the padding that may count.
        sizes: of the output. given: of the input.
        padding: whether its padding counts.

    Returns:
        (1, 1, H, W) float32.
    """
    lines = []
    for axis, (size, length) in enumerate(zip(sizes, given, strict=True)):
        starts = np.arange(size) * window.strides[axis] - window.before[axis]
        ends = starts + window.kernel[axis]
        low = -window.before[axis] if padding else 0
        high = length + (window.after[axis] if padding else 0)
        lines.append(window.kernel[axis] / (ends.clip(None, high) - starts.clip(low, None)))
    return (lines[0][:, None] * lines[1][None, :]).astype(np.float32)[None, None]


WRITERS: Mapping[str, Writer] = {
    "Conv": convolved,
    "ConvTranspose": _conv_transpose,
    "MaxPool": _pool,
    "AveragePool": _pool,
}
"""Convolutions and poolings, by their names in ONNX."""
