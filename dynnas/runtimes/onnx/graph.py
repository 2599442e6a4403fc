"""Networks as ONNX graphs: for one image with real branching at the exits, or for a batch of any size."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynnas.errors import require
from dynnas.nn.branching import BranchMode
from dynnas.nn.context import Context
from dynnas.nn.dynamic_conv.mode import ConvMode
from dynnas.nn.exits.exits import Leaving, sureness_at
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import MaskedNetwork, own_exits, says_exit
from dynnas.runtimes.cascade import Cascade
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.recording import Recorder
from dynnas.runtimes.onnx.segment import no_packing, segment_graph
from dynnas.runtimes.onnx.trace import trace
from dynnas.runtimes.plain import Compilable, PlainNetwork, blank_images

if TYPE_CHECKING:
    from onnx import ModelProto

    from dynnas.runtimes.onnx.splitting import Pack


def to_onnx(network: Compilable) -> ModelProto:
    """Return the graph for one image: folded, with an `If` wherever something may be left out.

    That is at every exit, at gates that branch, and between the networks of a cascade.

    Input `image` (1, channels, height, width) float32; outputs `logits` (1, ...) and, for a
    network with exits, `exit` (1,) int64: the index of the exit taken, the number of exits for the head. For
    a cascade, `exit` is the index of the network that answers.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    if isinstance(network, Cascade):
        return join_cascade(network, to_onnx)
    return join(network, segment_graphs(network))


def to_packed_onnx(network: Compilable) -> ModelProto:
    """Return the graph for one image, packed for processors like this machine's: see `packing.packing`.

    On other processors it fails, by `packing.guard`.

    Raises:
        MissingExtraError: onnx or onnxruntime is not installed.
    """
    model = _packed(network)

    from dynnas.runtimes.onnx.packing.guard import guard

    return guard(model)


def _packed(network: Compilable) -> ModelProto:
    if isinstance(network, Cascade):
        return join_cascade(network, _packed)
    require("onnx", "onnx")
    from dynnas.runtimes.onnx.packing.layout_boundaries import BoundaryLostError
    from dynnas.runtimes.onnx.packing.packing import pack, pack_between

    try:
        return join(network, segment_graphs(network, pack_between))
    except BoundaryLostError:
        return join(network, segment_graphs(network, lambda part, takes, gives: (pack(part), False)))


def segment_graphs(network: Network | PlainNetwork, pack: Pack = no_packing) -> list[ModelProto]:
    """Return a graph for each segment of the folded network: one without exits is a single segment.

    Args:
        network: calibrated.
        pack: to be done with every graph that does not branch.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    recorder = Recorder()
    folded = fold_batchnorm(network, Context(GateMode("real"), BranchMode(recorder.run))).cpu()
    x = blank_images(network.config)
    parts, laid_out = [], False
    for segment in folded.segments():
        part, x, laid_out = segment_graph(segment, recorder, x, laid_out, pack, own_exits(network))
        parts.append(part)
    return parts


def join(network: Network | PlainNetwork, parts: list[ModelProto]) -> ModelProto:
    """Join the graphs of the segments, which can no longer be used by themselves."""
    if len(parts) == 1:
        return parts[0]

    from dynnas.runtimes.onnx.branching import join_segments

    return join_segments(parts, [place.threshold for place in network.config.exits])


def join_cascade(cascade: Cascade, graph_of: Callable[[Network], ModelProto]) -> ModelProto:
    """Join the graphs of the networks of a cascade."""
    parts = [graph_of(stage.network) for stage in cascade.members]
    resizing = [stage.lines for stage in cascade.members]

    from dynnas.runtimes.onnx.branching import add_sureness, join_networks, shape_of

    for part, link in zip(parts, cascade.config.exits, strict=False):
        if link.task is not None:
            output = torch.zeros(shape_of(part, "logits"))
            add_sureness(part, trace(_Sureness(link), output, ["output"], ["sureness"]))
    return join_networks(parts, cascade.thresholds, resizing, cascade.config.size)


class _Sureness(nn.Module):
    """Tells from an output how sure a network of a cascade is."""

    def __init__(self, place: Leaving) -> None:
        super().__init__()
        self.place = place

    def forward(self, output: Tensor) -> Tensor:
        return sureness_at(self.place, output)


def to_onnx_batch(network: Compilable) -> ModelProto:
    """Return the graph for any batch: every exit is computed, and the first confident one chosen.

    Inputs and outputs as `to_onnx`, with the batch's size in place of 1.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    # The other ways to run a mixed kernel need to know the batch's size when they are exported.
    folded = fold_batchnorm(network, Context(ConvMode("conv_first"))).cpu()
    outputs = ["logits", "exit"] if says_exit(network) else ["logits"]
    return trace(MaskedNetwork(folded), blank_images(network.config, 2), ["image"], outputs, any_batch=True)
