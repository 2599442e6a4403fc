"""The network of this study, in plain torch."""

from __future__ import annotations

import torch
from residual import Basic, conv
from torch import Tensor, nn
from torch.nn import functional as F


class ResNet(nn.Module):
    """A ResNet of three stages for small images: (B, channels, H, W) to logits (B, classes)."""

    def __init__(self, channels: int, classes: int, width: int = 16) -> None:
        super().__init__()
        self.stem = conv(channels, width, 3, 2)
        self.stages = nn.Sequential(
            Basic(width, width, 1), Basic(width, 2 * width, 2), Basic(2 * width, 4 * width, 2)
        )
        self.fc = nn.Linear(4 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map images to logits."""
        return self.fc(self.stages(F.relu(self.stem(x))).mean((2, 3)))


def drawn(channels: int, classes: int, width: int, seed: int) -> nn.Module:
    """Return a network with weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ResNet(channels, classes, width)
