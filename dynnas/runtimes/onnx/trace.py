"""Modules as ONNX graphs."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.onnx.errors import OnnxExporterError

from dynnas.errors import TargetError, require
from dynnas.runtimes.onnx.decomposed import decomposed

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18

SIDE_OUTPUT_PREFIX = "given/"
"""Prefix of side outputs, so that a graph's output never has the name of the input that it changes."""


def trace(
    module: nn.Module,
    x: Tensor | Sequence[Tensor],
    inputs: Sequence[str],
    outputs: Sequence[str],
    any_batch: bool = False,
) -> ModelProto:
    """Trace any module in eval mode to a graph with these names of inputs and outputs.

    Raises:
        TargetError: graphs do not have an operator of the module.
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    buffer = io.BytesIO()
    with warnings.catch_warnings(), decomposed():
        # The tracing exporter takes 0.1 s where its successor takes seconds. It warns of its age and of what
        # tracing may miss; every graph that ships is compared with torch on real images.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module.eval(),
                (x,) if isinstance(x, Tensor) else tuple(x),
                buffer,  # type: ignore[arg-type]  # the annotation forgets that buffers are taken too
                input_names=list(inputs),
                output_names=list(outputs),
                dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)} if any_batch else None,
                opset_version=OPSET,
                dynamo=False,
            )
        except OnnxExporterError as error:
            said = next(iter(str(error).splitlines()), type(error).__name__)
            raise TargetError(
                f"ONNX: the network has no graph: {said}; write that part with other operators, or take the "
                "runtime torch"
            ) from error
    return onnx.load_model_from_string(buffer.getvalue())
