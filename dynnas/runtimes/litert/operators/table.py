"""The operators of ONNX graphs that LiteRT runs, by their names.

Imports onnx and ai_edge_litert: import this module only where they are installed.
"""

from __future__ import annotations

from collections.abc import Mapping

from dynnas.runtimes.litert.operators import (
    convolution,
    elementwise,
    matrices,
    padding,
    reduction,
    sampling,
    selection,
    shapes,
    whole_numbers,
)
from dynnas.runtimes.litert.operators.node import Writer

WRITERS: Mapping[str, Writer] = {
    **convolution.WRITERS,
    **elementwise.WRITERS,
    **matrices.WRITERS,
    **padding.WRITERS,
    **reduction.WRITERS,
    **sampling.WRITERS,
    **selection.WRITERS,
    **shapes.WRITERS,
    **whole_numbers.WRITERS,
}
"""All of them, but for `Constant` and `If`."""
