"""Values with more around them.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from ai_edge_litert.schema_py_generated import MirrorPadMode

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import Graph, Input, Value, constant, lacking
from dynnas.runtimes.litert.operators.node import Node, Writer
from dynnas.runtimes.litert.operators.selection import gathered
from dynnas.runtimes.litert.operators.shapes import sliced

Sides = Sequence[tuple[int, int]]
"""The numbers of values to put before and behind a value, along each axis."""


def filled(graph: Graph, x: Value, sides: Sides, value: float) -> Value:
    """Return a value with copies of one number around it."""
    shape = [size + before + after for size, (before, after) in zip(x.shape, sides, strict=True)]
    around = np.array([sides[axis] for axis in x.order], np.int32)
    if value == 0:
        return graph.emit("PAD", [x, around], shape, x.dtype, x.order, Options("PadOptions"), x.scale)
    inputs: list[Input] = [x, around, np.array(value, x.dtype)]
    return graph.emit("PADV2", inputs, shape, x.dtype, x.order, Options("PadV2Options"))


def _continued(graph: Graph, x: Value, sides: Sides, mode: str) -> Value:
    """Return a value with its own numbers around it."""
    if mode == "reflect":
        shape = [size + before + after for size, (before, after) in zip(x.shape, sides, strict=True)]
        around = np.array([sides[axis] for axis in x.order], np.int32)
        options = Options("MirrorPadOptions", mode=MirrorPadMode.REFLECT)
        return graph.emit("MIRROR_PAD", [x, around], shape, x.dtype, x.order, options)
    for axis, (before, after) in enumerate(sides):
        if before or after:
            size = x.shape[axis]
            places = np.arange(-before, size + after)
            x = gathered(graph, x, constant(places.clip(0, size - 1) if mode == "edge" else places), axis)
    return x


def _pad(graph: Graph, node: Node) -> Value:
    x, pads, mode = node[0], node.ints("pads", 1) or [], node.get("mode", "constant")
    fill, axes = node.optional(2), node.ints("axes", 3) or [*range(x.rank)]
    sides = [(0, 0)] * x.rank
    for number, axis in enumerate(axes):
        sides[axis % x.rank] = pads[number], pads[number + len(axes)]
    begins = [max(0, -before) for before, _ in sides]
    kept = [size + min(0, b) + min(0, a) for size, (b, a) in zip(x.shape, sides, strict=True)]
    x = sliced(graph, x, begins, kept)  # what is padded by less than nothing is cut
    sides = [(max(0, before), max(0, after)) for before, after in sides]
    if not any(map(any, sides)):
        return x
    if mode != "constant":
        return _continued(graph, x, sides, mode)
    if fill is not None and fill.data is None:
        raise lacking("Pad with what depends on the image")
    return filled(graph, x, sides, 0 if fill is None or fill.data is None else fill.data.item())


WRITERS: Mapping[str, Writer] = {"Pad": _pad}
"""Padding, by its name in ONNX."""
