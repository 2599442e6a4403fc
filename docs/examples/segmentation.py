"""A segmentation network of one's own, a UNet in small, becomes a search over its widths, depth and stages.

    python docs/examples/segmentation.py FILE.npz [--epochs 30] [--trials 60]

FILE holds x_train and x_test, bytes (N, H, W, 3), and y_train and y_test, the class of each pixel (N, H, W),
255 where none counts. The lines between the two marks are what a search adds to the script.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset


def unit(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """Make a convolution, its norm and its activation."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """Maps of halved size, each twice as wide, and back to an eighth, a quarter or half of the image."""

    def __init__(self, classes: int, width: int, depth: int, stages: int) -> None:
        super().__init__()
        widths = [width * 2**stage for stage in range(stages)]
        self.down = nn.ModuleList(
            nn.Sequential(unit(before, now, stride=2), *(unit(now, now) for _ in range(depth)))
            for before, now in zip([3, *widths], widths, strict=False)
        )
        self.across = nn.ModuleList(nn.Conv2d(each, width, 1) for each in widths)
        self.smooth = unit(width, width)
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, classes, H / 2, W / 2), rounded up."""
        maps = []
        for stage in self.down:
            x = stage(x)
            maps.append(x)
        x = self.across[-1](maps[-1])
        for across, finer in zip(list(self.across)[-2::-1], maps[-2::-1], strict=True):
            x = across(finer) + F.interpolate(x, finer.shape[-2:], mode="nearest")
        return self.head(self.smooth(x))


def read(path: str) -> tuple[TensorDataset, TensorDataset]:
    """Read the training and the test split."""
    with np.load(path) as arrays:
        images = [torch.from_numpy(arrays[f"x_{part}"]).permute(0, 3, 1, 2) for part in ("train", "test")]
        masks = [torch.from_numpy(arrays[f"y_{part}"]) for part in ("train", "test")]
    return TensorDataset(images[0], masks[0]), TensorDataset(images[1], masks[1])


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("file")
    options.add_argument("--epochs", type=int, default=30)
    options.add_argument("--trials", type=int, default=60)
    options.add_argument("--study", type=Path, default=Path("studies/segmentation"))
    given = options.parse_args()
    train, test = read(given.file)
    classes = 1 + int(train.tensors[1][train.tensors[1] != 255].max())

    # search
    import dynnas as dn
    from dynnas.settings.settings import TrainSettings

    front = dn.search(
        dn.Space.of(UNet, classes=[classes], width=[8, 16, 24], depth=[0, 1, 2], stages=[2, 3, 4]),
        data=(train, test),
        task=dn.tasks.Segmentation(),
        train=TrainSettings(epochs=given.epochs, batch=16, optimizer="adamw", lr=2e-3),
        objectives=("mean_iou", "latency_ms"), trials=given.trials, folder=given.study,
    )  # fmt: skip
    # end of search
    print(front)
