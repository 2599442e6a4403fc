"""A classifier of one's own becomes a search over its depth, width and kinds of convolution.

    python docs/examples/classification.py [--epochs 12] [--trials 60]

It tells scikit-learn's handwritten digits. The lines between the two marks are what a search
adds to the script.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset, random_split

from dynnas.nn import Conv2d


class ConvNet(nn.Module):
    """Plain convolutions, of which those of the last stages may be dynamic: `op` is a kind of kernel."""

    def __init__(self, depth: int, width: int, op: str = "static") -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for stage in range(depth):
            out = width * 2 ** min(stage, 2)
            conv = Conv2d(channels, out, 3, padding=1, stride=1 + stage % 2, op=op if stage else "static")
            layers += [conv, nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, 10)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 1, 8, 8) to logits (B, 10)."""
        return self.classifier(self.features(x).mean((2, 3)))


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--epochs", type=int, default=12)
    options.add_argument("--trials", type=int, default=60)
    options.add_argument("--study", type=Path, default=Path("studies/classification"))
    given = options.parse_args()
    bunch = load_digits()
    images = torch.from_numpy(bunch.images / 16).float()[:, None]
    digits = TensorDataset(images, torch.from_numpy(bunch.target))
    train, search, test = random_split(digits, [1297, 200, 300], torch.Generator().manual_seed(0))

    # search
    import dynnas as dn
    from dynnas.settings.settings import TrainSettings

    front = dn.search(
        dn.Space.of(ConvNet, depth=[2, 3, 4], width=[8, 12, 16], op=["static", "condconv"]),
        data=(train, search, test),
        train=TrainSettings(epochs=given.epochs, batch=64),
        objectives=("accuracy", "latency_ms"), trials=given.trials, folder=given.study,
    )  # fmt: skip
    # end of search
    print(front)
