"""Networks as ONNX graphs: for one image with real branching at the exits, or for a batch of any size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from dynnas.errors import require
from dynnas.ops import Network, answer, set_execution, set_strategy, sureness
from dynnas.ops.exits import Leaving
from dynnas.ops.gate import Deciding
from dynnas.ops.network import Body
from dynnas.runtime.branching import MaskedNetwork
from dynnas.runtime.cascade import Cascade, Finished
from dynnas.runtime.folding import fold_batchnorm
from dynnas.runtime.images import blank_images

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18

Pack = Callable[["ModelProto", bool, "bool | None"], "tuple[ModelProto, bool]"]
"""Makes a graph without branches ready for a runtime: as `onnx_packing.pack_between`."""


def _as_it_is(part: ModelProto, takes: bool, gives: bool | None) -> tuple[ModelProto, bool]:
    return part, False


def to_onnx(network: Finished) -> ModelProto:
    """The graph for one image: folded, with an `If` wherever something may be left out.

    That is at every exit, at gates that branch, and between the networks of a cascade.

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
    require("onnx", "onnx")
    from dynnas.runtime.onnx_borders import BorderLostError  # these import onnx
    from dynnas.runtime.onnx_packing import pack, pack_between

    try:
        return join(network, segment_graphs(network, pack_between))
    except BorderLostError:
        return join(network, segment_graphs(network, lambda part, takes, gives: (pack(part), False)))


def segment_graphs(network: Network, pack: Pack = _as_it_is) -> list[ModelProto]:
    """A graph for each segment of the folded network: one without exits is a single segment.

    Args:
        network: calibrated.
        pack: to be done with every graph that does not branch.

    Raises:
        MissingExtraError: onnx is not installed.
    """
    folded = fold_batchnorm(network).cpu()
    set_execution(folded, "real")
    x = blank_images(network.config)
    if not network.config.branches:
        return [pack(trace(folded, x, ["image"], ["logits"]), False, False)[0]]
    parts, laid_out = [], False
    for segment in folded.segments():
        graphs, x, laid_out, rest = _gates(segment.body, x, laid_out, pack)
        last: nn.Module
        if segment.exit is None:
            last, outputs = nn.Sequential(rest, segment.classifier), ["logits"]
        else:
            last = _Inner(rest, segment.classifier, segment.exit)
            outputs = last.outputs
        part, laid_out = pack(trace(last, x, ["image"], outputs), laid_out, None)
        with torch.no_grad():
            x = rest(x)
        parts.append(_chain([*graphs, part]))
    return parts


def _gates(
    body: nn.Sequential, x: Tensor, laid_out: bool, pack: Pack
) -> tuple[list[ModelProto], Tensor, bool, nn.Sequential]:
    """The graphs of a segment up to its last gate that branches; what comes out of them; what is left.

    What comes out is an example, and whether the graphs give it laid out, as the segment's images may be.
    """
    graphs: list[ModelProto] = []
    plain: list[nn.Module] = []
    for module in body:
        if not (isinstance(module, Deciding) and module.branches):
            plain.append(module)
            continue
        if plain:
            part, laid_out = pack(trace(Body(*plain), x, ["image"], ["features"]), laid_out, None)
            graphs.append(part)
            with torch.no_grad():
                x = Body(*plain)(x)
        part, laid_out = _gate(module, x, laid_out, pack)
        graphs.append(part)
        with torch.no_grad():
            x = module(x)
        plain = []
    return graphs, x, laid_out, Body(*plain)


def _gate(gated: Deciding, x: Tensor, laid_out: bool, pack: Pack) -> tuple[ModelProto, bool]:
    from dynnas.runtime.onnx_gates import choose  # imports onnx, which is known to be there by now

    count = len(gated.choices())
    asked = [f"choice{index}" for index in range(count - 1)]
    decide, _ = pack(trace(_Decide(gated), x, ["image"], asked), laid_out, False)
    *fewer, whole = (trace(_Alternative(gated, index), x, ["image"], ["features"]) for index in range(count))
    last, gives = pack(whole, laid_out, None)
    return choose(decide, [*(pack(part, laid_out, gives)[0] for part in fewer), last]), gives


def _chain(graphs: list[ModelProto]) -> ModelProto:
    from dynnas.runtime.onnx_gates import chain  # imports onnx, which is known to be there by now

    return chain(graphs)


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

    def __init__(self, body: nn.Module, classifier: nn.Module, place: Leaving) -> None:
        super().__init__()
        self.body, self.classifier, self.criterion = body, classifier, place.criterion

    @property
    def outputs(self) -> list[str]:
        """Their names; the largest softmax is left to whoever joins the graphs."""
        return ["logits", "features", *(["sureness"] if self.criterion != "confidence" else [])]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = self.body(x)
        output = self.classifier(features)
        logits = answer(output, self.criterion)
        if self.criterion == "confidence":
            return logits, features
        return logits, features, sureness(output, self.criterion)


class _Decide(nn.Module):
    """Of a gate that branches, for each alternative but the last: whether none after it has a larger logit.

    The first for which that holds is taken: (1,) bool each. The argmax as a row takes four times as long.
    """

    def __init__(self, gated: Deciding) -> None:
        super().__init__()
        self.gated = gated

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        *logits, best = self.gated.logits(x).flatten().split(1)
        asked = []
        for logit in reversed(logits):
            asked.append(logit >= best)
            best = torch.maximum(best, logit)
        return tuple(reversed(asked))


class _Alternative(nn.Module):
    """What an image runs that takes one alternative."""

    def __init__(self, gated: Deciding, alternative: int) -> None:
        super().__init__()
        self.gated, self.alternative = gated, alternative

    def forward(self, x: Tensor) -> Tensor:
        return self.gated.branch(x, self.alternative)


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
