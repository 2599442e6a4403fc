"""Networks as ONNX graphs: for one image with real branching at the exits, or for a batch of any size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynnas.errors import require
from dynnas.ops import Network, Segment, set_strategy
from dynnas.runtime.branching import MaskedNetwork
from dynnas.runtime.cascade import Cascade, Finished
from dynnas.runtime.folding import fold_batchnorm
from dynnas.runtime.images import blank_images

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18


def to_onnx(network: Finished) -> ModelProto:
    """The graph for one image: folded, an `If` at every exit, or between two networks, to skip the rest.

    Input `image` (1, channels, resolution, resolution) float32; outputs `logits` (1, classes) and, for a
    network with exits, `exit` (1,) int64: the index of the exit taken, the number of exits for the head. For
    a cascade, `exit` is the index of the network that answers.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    if isinstance(network, Cascade):
        return join_cascade(network, to_onnx)
    return join(network, segment_graphs(network))


def to_packed_onnx(network: Finished) -> ModelProto:
    """As `to_onnx`, laid out for ONNX Runtime on processors like this machine's: see `onnx_packing`.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    model = _packed(network)

    from dynnas.runtime.onnx_packing import mark_packed  # imports onnx, which is known to be there by now

    return mark_packed(model)


def _packed(network: Finished) -> ModelProto:
    if isinstance(network, Cascade):
        return join_cascade(network, _packed)
    parts = segment_graphs(network)

    from dynnas.runtime.onnx_packing import pack  # imports onnx, which is known to be there by now

    return join(network, [pack(part) for part in parts])


def segment_graphs(network: Network) -> list[ModelProto]:
    """A graph for each segment of the folded network: one without exits is a single segment."""
    folded = fold_batchnorm(network).cpu()
    x = blank_images(network.config)
    if not network.config.exits:
        return [trace(folded, x, ["image"], ["logits"])]
    parts = []
    *inner, last = folded.segments()
    for segment in inner:
        parts.append(trace(_Inner(segment), x, ["image"], ["logits", "features"]))
        with torch.no_grad():
            x = segment.body(x)
    parts.append(trace(nn.Sequential(last.body, last.classifier), x, ["image"], ["logits"]))
    return parts


def join(network: Network, parts: list[ModelProto]) -> ModelProto:
    """One graph of those of the segments, which are no longer of use by themselves."""
    if len(parts) == 1:
        return parts[0]

    from dynnas.runtime.onnx_branching import join_segments  # imports onnx, which is known to be there by now

    return join_segments(parts, [place.threshold for place in network.config.exits])


def join_cascade(cascade: Cascade, graph_of: Callable[[Network], ModelProto]) -> ModelProto:
    """One graph of those of the networks of a cascade."""
    parts = [graph_of(stage.network) for stage in cascade.members]
    resizing = [stage.lines for stage in cascade.members]

    from dynnas.runtime.onnx_branching import join_networks  # imports onnx, which is known to be there by now

    return join_networks(parts, cascade.thresholds, resizing, cascade.config.resolution)


def to_onnx_batch(network: Finished) -> ModelProto:
    """The graph for any batch: every exit is computed, and the first confident one chosen for each image.

    Inputs and outputs as `to_onnx`, with the batch's size in place of 1.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    folded = fold_batchnorm(network).cpu()
    # The other ways to run a mixed kernel need to know the batch's size when they are exported.
    set_strategy(folded, "conv_first")
    outputs = ["logits", "exit"] if network.config.exits else ["logits"]
    return trace(MaskedNetwork(folded), blank_images(network.config, 2), ["image"], outputs, any_batch=True)


class _Inner(nn.Module):
    """What an exit decides on, and what goes on to the next segment."""

    def __init__(self, segment: Segment) -> None:
        super().__init__()
        self.body, self.classifier = segment.body, segment.classifier

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.body(x)
        return self.classifier(features), features


def trace(
    module: nn.Module, x: Tensor, inputs: Sequence[str], outputs: Sequence[str], any_batch: bool = False
) -> ModelProto:
    """The graph of any module in eval mode, with these names for what it takes and gives.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    onnx = require("onnx", "onnx")
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # The tracing exporter takes 0.1 s where its successor takes seconds. It warns of its age and of what
        # tracing may miss; every graph that ships is compared with torch on real images.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            (x,),
            buffer,  # type: ignore[arg-type]  # the annotation forgets that buffers are taken too
            input_names=list(inputs),
            output_names=list(outputs),
            dynamic_axes={name: {0: "batch"} for name in (*inputs, *outputs)} if any_batch else None,
            opset_version=OPSET,
            dynamo=False,
        )
    return onnx.load_model_from_string(buffer.getvalue())
