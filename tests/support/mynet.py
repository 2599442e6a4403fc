"""A class of one's own, as anyone would write it: with dynamic kernels to choose from."""

import torch
from torch import nn

from dynnas.nn import Conv2d


class MyNet(nn.Module):
    """Images (B, 1, 8, 8) to logits (B, 10)."""

    def __init__(self, depth: int, width: int, op: str = "static", experts: int = 4):
        super().__init__()
        more = {"experts": experts} if op == "condconv" else {}
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList(
            nn.Sequential(Conv2d(width, width, 3, padding=1, op=op, **more), nn.BatchNorm2d(width), nn.ReLU())
            for _ in range(depth)
        )
        self.classifier = nn.Linear(width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.classifier(x.mean((2, 3)))
