"""A network that reads two numbers from an image becomes a search, judged by its error.

    python docs/examples/regression.py [--epochs 12] [--trials 60]

It tells the middle (x, y) of a bright spot. The lines between the two marks are what a search
adds to the script.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset


class Spots(Dataset):
    """Images (1, 20, 28) of a spot in noise, and where it is; each is drawn from its number."""

    def __init__(self, count: int, first: int = 0) -> None:
        self.count, self.first = count, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        if index >= self.count:
            raise IndexError(index)
        rng = torch.Generator().manual_seed(self.first + index)
        x, y = (torch.rand(2, generator=rng) * torch.tensor([22.0, 14.0]) + 3).tolist()
        away = (torch.arange(28) - x).square()[None] + (torch.arange(20) - y).square()[:, None]
        noise = 0.1 * torch.rand(20, 28, generator=rng)
        return ((-away / 6).exp() + noise)[None], torch.tensor([x, y])


class Reader(nn.Module):
    """Convolutions with stride 2, then a linear layer over all places."""

    def __init__(self, width: int, kernel: int, hidden: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, kernel, stride=2, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        )  # fmt: skip
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 5 * 7, hidden), nn.ReLU(), nn.Linear(hidden, 2))

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 20, 28) to numbers (B, 2)."""
        return self.head(self.features(x))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--trials", type=int, default=60)
    options.add_argument("--study", type=Path, default=Path("studies/regression"))
    given = options.parse_args()
    train, search, test = Spots(800), Spots(200, 10_000), Spots(200, 20_000)

    # search
    import dynnas as dn
    from dynnas.settings.settings import TrainSettings

    front = dn.search(
        dn.Space.of(Reader, width=[4, 8, 16], kernel=[3, 5], hidden=[8, 16, 32]),
        data=(train, search, test),
        task=dn.tasks.Regression(["x", "y"]),
        train=TrainSettings(epochs=given.epochs, batch=64, optimizer="adamw", lr=3e-3),
        objectives=("rmse", "latency_ms"), trials=given.trials, folder=given.study,
    )  # fmt: skip
    # end of search
    print(front)
