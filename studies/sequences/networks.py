"""Networks that read an image row by row, in plain torch and layers of `dynnas.nn`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from dynnas.nn import ExitInTime, FrameSelection, HaltingTokens, SkipRNN, TokenLayer

SIDE = 28
"""Height and width of the images."""

HEAD = 16
"""Numbers of one head of the attention."""


class RowReader(nn.Module):
    """Reads the rows of an image one after the other.

    Args:
        reader: `gru`, `lstm` or `transformer`. units: of the state, or of a token.
        rows: of the image in one step. layers: of the transformer.
        selected: the share of the steps that a scorer lets through; 1 has no scorer.
        leaves_out: what a recurrent network may leave out: nothing, updates of its state, or the rest of the
            sequence once it is sure. updates: the share of them that is to be used.
        threshold: how sure it must be.
        halting: whether tokens of the transformer halt before its last layer.
        classes: of the images.
    """

    static_values: ClassVar[Mapping[str, object]] = {
        "selected": 1.0,
        "leaves_out": "nothing",
        "halting": False,
    }

    def __init__(
        self,
        reader: str,
        units: int,
        rows: int = 1,
        layers: int = 1,
        selected: float = 1.0,
        leaves_out: str = "nothing",
        updates: float = 1.0,
        threshold: float = 0.8,
        halting: bool = False,
        classes: int = 10,
    ) -> None:
        super().__init__()
        inputs, steps = rows * SIDE, SIDE // rows
        read = max(1, round(selected * steps))
        self.steps = steps
        # Weights of one way to read are of no use for another, nor those for one row for four.
        key = f"{reader} {leaves_out} {rows}"
        if reader == "transformer":
            net: nn.Module = Transformer(inputs, steps, read, units, layers, halting, classes)
        elif leaves_out == "rest":
            net = ExitInTime(
                inputs, units, classes, steps=read, every=max(1, read // 4), cell=reader, threshold=threshold
            )
        else:
            net = Recurrent(inputs, units, reader, updates if leaves_out == "updates" else None, classes)
        chosen = read < steps and reader != "transformer"
        self.select = nn.ModuleDict({key: selection(inputs, read)} if chosen else {})
        self.net = nn.ModuleDict({key: net})

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, 1, 28, 28) to logits (B, classes), in training perhaps those of all exits."""
        seen = x.reshape(x.shape[0], self.steps, -1)
        for select in self.select.values():
            seen = select(seen)
        (net,) = self.net.values()
        return net(seen)


def selection(inputs: int, count: int) -> FrameSelection:
    """Return what lets `count` steps through, by a scorer that looks at each alone."""
    return FrameSelection(nn.Sequential(nn.Linear(inputs, 8), nn.ReLU(), nn.Linear(8, 1)), count, draws=50)


class Recurrent(nn.Module):
    """A classifier on the last state of a GRU or an LSTM, which may leave out updates."""

    def __init__(self, inputs: int, units: int, cell: str, updates: float | None, classes: int) -> None:
        super().__init__()
        if updates is None:
            kind = nn.GRU if cell == "gru" else nn.LSTM
            self.read: nn.Module = kind(inputs, units, batch_first=True)
        else:
            self.read = SkipRNN(inputs, units, cell, updates)
        self.head = nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (B, T, inputs) to logits."""
        states = self.read(x)
        return self.head((states if isinstance(states, Tensor) else states[0])[:, -1])


class Transformer(nn.Module):
    """A classifier on the mean of the tokens; each is a step, with its place."""

    def __init__(
        self, inputs: int, steps: int, read: int, units: int, layers: int, halting: bool, classes: int
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, units)
        self.places = nn.Parameter(torch.randn(1, steps, units) * 0.02)
        self.select = nn.ModuleList([selection(units, read)] if read < steps else [])
        # Both kinds have the same layers.
        self.layers = nn.ModuleList(TokenLayer(units, units // HEAD, HEAD, ratio=2.0) for _ in range(layers))
        self.run = HaltingTokens(self.layers, read) if halting else nn.Sequential(*self.layers)
        self.norm, self.head = nn.LayerNorm(units), nn.Linear(units, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map sequences (B, T, inputs) to logits."""
        tokens = self.embed(x) + self.places
        for select in self.select:
            tokens = select(tokens)
        return self.head(self.norm(self.run(tokens)).mean(1))
