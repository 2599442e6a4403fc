"""A network that is trained by construction: it tells sixteen textures apart, by one channel each.

What a search finds for it does not depend on what a short training reaches: the whole network knows all
textures, and one of half the channels cannot.
"""

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

CLASSES = 16
TEXTURE = 4
"""Side of the square that repeats."""


def textures():
    """The patterns (16, 4, 4) of -1 and 1, which are orthogonal: rows of Hadamard's matrix."""
    rows = np.ones((1, 1))
    while len(rows) < CLASSES:
        rows = np.block([[rows, rows], [rows, -rows]])
    return rows.reshape(CLASSES, TEXTURE, TEXTURE)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1, self.norm2 = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)
        self.second = nn.Conv2d(channels, channels, 5, padding=2, bias=False)

    def forward(self, x):
        return x + self.norm2(self.second(F.relu(self.norm1(self.first(x)))))


class TextureNet(nn.Module):
    """Images (B, 1, 16, 16) to logits (B, 16)."""

    def __init__(self, classes=CLASSES):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, CLASSES, TEXTURE, TEXTURE), nn.ReLU())
        self.early = nn.Sequential(Residual(CLASSES), Residual(CLASSES))
        self.late = nn.Sequential(Residual(CLASSES), Residual(CLASSES))
        self.fc = nn.Linear(CLASSES, classes)

    def forward(self, x):
        return self.fc(self.late(self.early(self.stem(x))).mean((2, 3)))


@torch.no_grad()
def texture_net():
    """The network that knows the textures, in eval mode."""
    torch.manual_seed(0)
    network = TextureNet()
    stem = network.stem[0]
    stem.weight.copy_(torch.from_numpy(textures())[:, None] / CLASSES)
    stem.bias.zero_()
    network.fc.weight.copy_(8 * torch.eye(CLASSES))
    network.fc.bias.zero_()
    for block in [*network.early, *network.late]:
        block.norm2.weight.fill_(0.01)
    return network.eval()


def write_pictures(path: Path, train=64, search=64, test=64):
    """Write an .npz of pictures of the textures, which a little noise disturbs."""
    generator = np.random.default_rng(0)
    tiles, arrays = np.tile(textures(), (1, 4, 4)), {}
    for part, count in {"train": train, "val": search, "test": test}.items():
        labels = np.arange(count) % CLASSES
        noise = generator.normal(0, 20, (count, 16, 16))
        arrays[f"x_{part}"] = np.clip(128 + 60 * tiles[labels] + noise, 0, 255).astype(np.uint8)
        arrays[f"y_{part}"] = labels
    np.savez(path, **arrays)
