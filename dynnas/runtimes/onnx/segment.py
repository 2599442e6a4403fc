"""The graph of a part of a network for one image, with an `If` at every layer that branches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import Leaving, answer, sureness
from dynnas.nn.networks.network import Segment
from dynnas.runtimes.onnx.recording import Recorder
from dynnas.runtimes.onnx.trace import trace

if TYPE_CHECKING:
    from onnx import ModelProto

    from dynnas.runtimes.onnx.splitting import Pack


def no_packing(part: ModelProto, takes: bool, gives: bool | None) -> tuple[ModelProto, bool]:
    """Leave the graph as it is."""
    return part, False


@torch.no_grad()
def trace_segment(segment: Segment, x: Tensor, own_exits: bool = False) -> ModelProto:
    """Return the graph of a segment, in which a node stands for each layer that branches.

    Args:
        segment, x, own_exits: as `segment_graph` takes them.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    outputs = ["logits", "exit"] if own_exits else _outputs(segment.exit)
    return trace(_Tensors(segment, own_exits), x, ["image"], outputs)


@torch.no_grad()
def segment_graph(
    segment: Segment, recorder: Recorder, x: Tensor, laid_out: bool, pack: Pack, own_exits: bool = False
) -> tuple[ModelProto, Tensor, bool]:
    """Return the graph from `image` to the classifier's outputs and, for an inner segment, `features`.

    Args:
        segment: folded, its layers in the `BranchMode` of the recorder.
        recorder: takes down the calls of layers that branch.
        x: an image, or what the segment before made of one.
        laid_out: whether the graph gets `x` laid out for the processor.
        pack: to be done with every graph that does not branch.
        own_exits: whether the segment is a network of one's own class, whose exits say who leaves.

    Returns:
        The graph, what goes on to the next segment, and whether that is laid out.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    traced = trace_segment(segment, x, own_exits)
    from dynnas.runtimes.onnx.splitting import with_branches

    graph, laid_out = with_branches(traced, recorder.calls, pack, laid_out)
    return graph, segment.body(x), laid_out


def _outputs(place: Leaving | None) -> list[str]:
    if place is None:
        return ["logits"]
    # The largest softmax is left to the code that joins the graphs.
    return ["logits", "features", *(["sureness"] if place.criterion != "confidence" else [])]


class _Tensors(nn.Module):
    """A segment as a function of tensors: what an exit decides on, and what goes on."""

    def __init__(self, segment: Segment, own_exits: bool) -> None:
        super().__init__()
        self.own_exits = own_exits
        self.body, self.classifier, self.place = segment.body, segment.classifier, segment.exit

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        if self.own_exits:
            with tracing(self.body, Left) as found:
                output = self.body(x)
            return output, found.of(Left)[0].taken
        features = self.body(x)
        output = self.classifier(features)
        return output if self.place is None else _of_exit(features, output, self.place)


def _of_exit(features: Tensor, output: Tensor, place: Leaving) -> tuple[Tensor, ...]:
    logits = answer(output, place.criterion)
    if place.criterion == "confidence":
        return logits, features
    return logits, features, sureness(output, place.criterion)
