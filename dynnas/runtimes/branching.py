"""Early exit in batches: a batch computes everything, or shrinks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from dynnas.nn.context import Trace, tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import Leaving, answer, is_confident_at, leave
from dynnas.nn.networks.network import Segment
from dynnas.runtimes.plain import Compilable, PlainNetwork


def leave_one_after_another(segments: Sequence[Segment], x: Tensor) -> tuple[Tensor, Tensor]:
    """Run images (B, C, R, R) each up to its exit: logits (B, classes), indices (B,) of exits."""
    left: list[tuple[Tensor, Tensor]] = []
    rows = torch.arange(len(x), device=x.device)
    for segment in segments:
        x = segment.body(x)
        output, place = segment.classifier(x), segment.exit
        if place is None:
            left.append((rows, output))
            break
        leaves = is_confident_at(place, output)
        left.append((rows[leaves], answer(output, place.criterion)[leaves]))
        stays = ~leaves
        rows = rows[stays]
        if not len(rows):
            break
        if len(rows) < len(x):
            x = x[stays]
    order = torch.cat([rows for rows, _ in left])
    exits = torch.cat([torch.full_like(rows, index) for index, (rows, _) in enumerate(left)])
    back = torch.argsort(order)
    return torch.cat([logits for _, logits in left])[back], exits[back]


class MaskedNetwork(nn.Module):
    """All of a network on images (B, channels, R, R): what a batch of any size ships as.

    Gives the logits (B, classes) that each image leaves with and, with exits, the index (B,) of its exit.
    """

    def __init__(self, network: Compilable) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        if own_exits(self.network):
            with tracing(self.network, Left) as trace:
                (output,) = self.network.logits(image)
            return output, trace.of(Left)[0].taken
        logits = self.network.logits(image)
        exits = self.network.config.exits
        return leave(logits, exits) if exits else logits[0]


def own_exits(network: nn.Module) -> bool:
    """Return whether a network is of one's own class, and says by which early exit an image left."""
    return isinstance(network, PlainNetwork) and network.config.says_exit


def says_exit(network: Compilable) -> bool:
    """Return whether graphs of a network give the index of the exit by which an image left."""
    return bool(network.config.exits) or own_exits(network)


def left_by(outputs: Sequence[Tensor], exits: Sequence[Leaving], trace: Trace) -> Tensor:
    """Return the index (B,) int64 of the exit by which each image left, as `ways` of a config names them.

    Args:
        outputs: of the network. exits: of its config.
        trace: of its run: an early-exit container in a network of any class has recorded it there.
    """
    found = trace.of(Left)
    return found[0].taken if len(found) == 1 else leave(outputs, exits)[1]
