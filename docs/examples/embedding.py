"""A script that learns to tell images apart becomes a search, by its own training step and its own score.

    python docs/examples/embedding.py [--epochs 20] [--trials 40]

Images of one digit of scikit-learn's get directions that are near to each other (supervised contrastive
learning, Khosla et al. 2020, arXiv:2004.11362), and are judged by whether the nearest other image is of the
same digit. The lines between the two marks are what a search adds to the script.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset, random_split

TEMPERATURE = 0.2


class Embedding(nn.Module):
    """Two convolutions, and a linear layer to a direction in `size` dimensions."""

    def __init__(self, width: int, size: int, kernel: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, width, kernel, padding=kernel // 2), nn.BatchNorm2d(width), nn.ReLU(),
            nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(),
        )  # fmt: skip
        self.head = nn.Linear(8 * width, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 8, 8) to unit vectors (B, size)."""
        return F.normalize(self.head(self.features(x)), dim=1)


def step(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss: images of one label are to be nearer to each other than to the rest."""
    images, labels = batch
    noisy = images + 0.1 * torch.randn_like(images)
    views, labels = torch.cat([model(images), model(noisy)]), labels.repeat(2)
    itself = torch.eye(len(views), dtype=torch.bool)
    shares = (views @ views.T / TEMPERATURE).masked_fill(itself, -1e4).log_softmax(1)
    same = (labels[:, None] == labels) & ~itself
    return -(shares * same).sum(1).div(same.sum(1)).mean()


def score(model: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """Return the share of images whose nearest other image has their label (recall at 1)."""
    said, labels = zip(*((model(images), labels) for images, labels in batches), strict=True)
    vectors, labels = torch.cat(said), torch.cat(labels)
    nearest = (vectors @ vectors.T).fill_diagonal_(-2).argmax(1)
    return {"recall": float((labels[nearest] == labels).float().mean())}


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=20)
    options.add_argument("--trials", type=int, default=40)
    options.add_argument("--study", type=Path, default=Path("studies/embedding"))
    given = options.parse_args()
    bunch = load_digits()
    images = torch.from_numpy(bunch.images / 16).float()[:, None]
    digits = TensorDataset(images, torch.from_numpy(bunch.target))
    train, search, test = random_split(digits, [1297, 200, 300], torch.Generator().manual_seed(0))

    # search
    import dynnas as dn
    from dynnas.settings.settings import TrainSettings

    front = dn.search(
        dn.Space.of(Embedding, width=[4, 8, 16], size=16, kernel=[3, 5]),
        data=(train, search, test), task=dn.tasks.Functions(step, score, {"recall": "maximize"}),
        train=TrainSettings(epochs=given.epochs, batch=64, optimizer="adamw", lr=3e-3),
        objectives=("recall", "latency_ms"), trials=given.trials, folder=given.study,
    )  # fmt: skip
    # end of search
    print(front)
