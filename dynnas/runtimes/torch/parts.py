"""Parts that the runtimes of torch share: networks in a numeric type, and their pieces between decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor, nn

from dynnas.nn.context import Context, with_context
from dynnas.nn.exits.exits import Leaving, answer, is_confident_at
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import Network, Segment
from dynnas.runtimes.branching import MaskedNetwork
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.layout import to_channels_last
from dynnas.runtimes.plain import PlainNetwork

Unfolded = TypeVar("Unfolded", bound=nn.Module)

Run = Callable[[Tensor], tuple[Tensor, Tensor]]
"""A function from a part's input to the next part's input and to the outputs of its exit or of the head."""

Part = tuple[Run, Leaving | None]
"""A part, with the exit by which an image may leave after it; None after the last."""


def folded_as(network: Unfolded, device: str, dtype: str) -> Unfolded:
    """Return a folded copy on `device`, computing in `dtype`.

    On a CPU it is channels-last, the faster layout there.
    """
    folded = fold_batchnorm(network).to(device, getattr(torch, dtype))
    if device == "cpu":
        to_channels_last(folded)
    return folded


def parts_of(network: Network | PlainNetwork, batch: int) -> list[Part]:
    """Return the segments for one image, with a decision after each; for a batch, the whole network at once.

    For one image, gates leave out what it does not want; where the parts are compiled, they compute it all.
    """
    if batch == 1:
        real = with_context(network, Context(GateMode("real")))
        return [(_run_segment(segment), segment.exit) for segment in real.segments()]
    masked = MaskedNetwork(network)

    def run_all(x: Tensor) -> tuple[Tensor, Tensor]:
        answer = masked(x)
        logits = answer[0] if isinstance(answer, tuple) else answer
        return logits, logits

    return [(run_all, None)]


def run_parts(parts: Sequence[Part], x: Tensor) -> Tensor:
    """Return the logits with which `x` leaves; parts after that are not run."""
    output = x
    for run, place in parts:
        x, output = run(x)
        if place is not None and is_confident_at(place, output).item():
            return answer(output, place.criterion)
    return output


def _run_segment(segment: Segment) -> Run:
    def run(x: Tensor) -> tuple[Tensor, Tensor]:
        features = segment.body(x)
        return features, segment.classifier(features)

    return run
