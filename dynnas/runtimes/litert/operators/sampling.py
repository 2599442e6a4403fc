"""Maps in other sizes, and values between their pixels.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dynnas.runtimes.litert.flatbuffer import Options
from dynnas.runtimes.litert.graph import BOOL, FLOAT, INT, Graph, Input, Value, constant, lacking
from dynnas.runtimes.litert.layout import CHANNELS_LAST
from dynnas.runtimes.litert.operators.elementwise import binary, cast, clipped, number, unary
from dynnas.runtimes.litert.operators.node import Node, Writer

_EXACT = {
    ("linear", "align_corners"): ("RESIZE_BILINEAR", "ResizeBilinearOptions", {"alignCorners": True}),
    ("linear", "half_pixel"): ("RESIZE_BILINEAR", "ResizeBilinearOptions", {"halfPixelCenters": True}),
    ("linear", "asymmetric"): ("RESIZE_BILINEAR", "ResizeBilinearOptions", {}),
    ("nearest", "asymmetric"): ("RESIZE_NEAREST_NEIGHBOR", "ResizeNearestNeighborOptions", {}),
}
"""The ways of resizing that LiteRT has, by the mode and by what pixels of both maps correspond."""


def _resize(graph: Graph, node: Node) -> Value:
    x, mode = node[0], node.get("mode", "nearest")
    corners = node.get("coordinate_transformation_mode", "half_pixel")
    sizes = node.ints("sizes", 3)
    if sizes is None:
        scales = node[2].data
        if scales is None:
            raise lacking("Resize by what depends on the image")
        sizes = [int(np.floor(size * scale)) for size, scale in zip(x.shape, scales, strict=True)]
    corners = "half_pixel" if corners == "pytorch_half_pixel" and min(sizes[2:]) > 1 else corners
    floors = mode != "nearest" or node.get("nearest_mode", "round_prefer_floor") == "floor"
    if (mode, corners) not in _EXACT or not floors or x.rank != 4 or tuple(sizes[:2]) != x.shape[:2]:
        raise lacking(f"Resize of {x.rank - 2} axes in the mode {mode} with {corners}")
    code, options, fields = _EXACT[mode, corners]
    image = graph.arranged(x, CHANNELS_LAST)
    inputs: list[Input] = [image, np.array(sizes[2:], np.int32)]
    return graph.emit(code, inputs, sizes, order=CHANNELS_LAST, options=Options(options, **fields))


def _grid_sample(graph: Graph, node: Node) -> Value:
    """Sum the four pixels around each place, by how near they are; what lies outside counts as 0."""
    x, grid = node[0], node[1]
    mode, around = node.get("mode", "linear"), node.get("padding_mode", "zeros")
    if mode not in ("linear", "bilinear") or around not in ("zeros", "border") or x.rank != 4:
        raise lacking(f"GridSample in the mode {mode} with {around} around the map")
    images, channels, high, wide = x.shape
    if images != 1:
        raise lacking("GridSample of several images in a call")
    points = grid.shape[1] * grid.shape[2]
    pixels = graph.reshaped(graph.arranged(x, CHANNELS_LAST), (images, channels, high * wide))
    pixels = graph.arranged(pixels, (0, 2, 1))
    flat = graph.reshaped(graph.plain(grid), (points, 2))
    lines = []
    for axis, size in ((1, high), (0, wide)):
        inputs: list[Input] = [flat, np.array([0, axis], np.int32), np.array([points, 1], np.int32)]
        place = graph.emit("SLICE", inputs, (points, 1), options=Options("SliceOptions"))
        aligned = bool(node.get("align_corners", 0))
        scale, shift = ((size - 1) / 2, (size - 1) / 2) if aligned else (size / 2, (size - 1) / 2)
        place = binary(graph, "ADD", binary(graph, "MUL", place, number(scale)), number(shift))
        if around == "border":
            place = clipped(graph, place, 0.0, float(size - 1))
        low = unary(graph, "FLOOR", place)
        share = binary(graph, "SUB", place, low)
        lines.append([_neighbour(graph, low, share, size, step) for step in (0, 1)])
    total: Value | None = None
    for row, down in lines[0]:
        for column, right in lines[1]:
            before = binary(graph, "MUL", row, constant(np.array(wide, np.int32)))
            where = binary(graph, "ADD", before, column)
            where = graph.reshaped(where, (points,))
            options = Options("GatherOptions", axis=1)
            shape = (images, channels, points)
            taken = graph.emit("GATHER", [pixels, where], shape, order=(0, 2, 1), options=options)
            weight = graph.reshaped(binary(graph, "MUL", down, right), (1, 1, points))
            part = binary(graph, "MUL", taken, weight)
            total = part if total is None else binary(graph, "ADD", total, part)
    assert total is not None
    return graph.reshaped(total, (images, channels, *grid.shape[1:3]))


def _neighbour(graph: Graph, low: Value, share: Value, size: int, step: int) -> tuple[Value, Value]:
    """Return the line of pixels `step` lines behind the one before each place, and how much it weighs."""
    line = binary(graph, "ADD", low, number(step)) if step else low
    weight = share if step else binary(graph, "SUB", number(1), share)
    inside = binary(graph, "EQUAL", line, clipped(graph, line, 0.0, float(size - 1)), BOOL)
    weight = binary(graph, "MUL", weight, cast(graph, inside, FLOAT))
    return cast(graph, clipped(graph, line, 0.0, float(size - 1)), INT), weight


WRITERS: Mapping[str, Writer] = {"Resize": _resize, "GridSample": _grid_sample}
"""Operators between pixels, by their names in ONNX."""
