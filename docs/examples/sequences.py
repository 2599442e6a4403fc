"""A recurrent classifier becomes a search over cells, widths and what it leaves out of a sequence.

    python docs/examples/sequences.py [--epochs 30] [--trials 40]

It tells scikit-learn's handwritten digits, read row by row. The lines between the two marks are what a search
adds to the script.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import ClassVar

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset, random_split

from dynnas.nn import ExitInTime, SkipRNN

ROWS, COLUMNS, CLASSES = 8, 8, 10


class RowReader(nn.Module):
    """Reads the rows of an image one after the other.

    `leaves_out` says what an image may leave out: nothing, updates of the state, or the rest once it is sure.
    """

    static_values: ClassVar = {"leaves_out": "nothing"}  # for the control without anything dynamic

    def __init__(self, units: int, cell: str, leaves_out: str, target: float = 1.0) -> None:
        super().__init__()
        if leaves_out == "rest":
            self.exits = ExitInTime(COLUMNS, units, CLASSES, steps=ROWS, every=2, cell=cell)
        elif leaves_out == "updates":
            self.skip = SkipRNN(COLUMNS, units, cell, target)
            self.head = nn.Linear(units, CLASSES)
        else:
            self.read = (nn.GRU if cell == "gru" else nn.LSTM)(COLUMNS, units, batch_first=True)
            self.head = nn.Linear(units, CLASSES)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Map images (B, 1, 8, 8) to logits (B, 10), in training perhaps those of all exits."""
        rows = x[:, 0]
        if hasattr(self, "exits"):
            return self.exits(rows)
        states = self.skip(rows) if hasattr(self, "skip") else self.read(rows)[0]
        return self.head(states[:, -1])


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--trials", type=int, default=40)
    options.add_argument("--study", type=Path, default=Path("studies/sequences"))
    given = options.parse_args()
    bunch = load_digits()
    images = torch.from_numpy(bunch.images / 16).float()[:, None]
    digits = TensorDataset(images, torch.from_numpy(bunch.target))
    train, search, test = random_split(digits, [1297, 200, 300], torch.Generator().manual_seed(0))

    # search
    import dynnas as dn
    from dynnas.settings.settings import TrainSettings

    target = dn.when(leaves_out="updates", choose=[0.4, 0.7])
    space = dn.Space.of(
        RowReader,
        units=[16, 32, 64],
        cell=["gru", "lstm"],
        leaves_out=["nothing", "updates", "rest"],
        target=target,
    )
    front = dn.search(
        space, data=(train, search, test), train=TrainSettings(epochs=given.epochs, batch=64, lr=0.1),
        objectives=("accuracy", "latency_ms"), trials=given.trials, folder=given.study,
    )  # fmt: skip
    # end of search
    print(front)
