"""A hybrid of convolutions and attention as a design space.

    python docs/examples/levit.py [STUDY_FOLDER]

After LeViT (Graham et al. 2021, arXiv:2104.01136): convolutions make the map small, then come stages of
attention over its pixels with learned biases for the distances between them, each linear layer followed by a
batch norm. Chosen are widths, the depth and heads of
each stage, the kernels of the convolutions (static or mixed for each image), whether images may pass MLPs by,
and an early exit. The networks are searched on scikit-learn's digits, and the knee is exported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

import dynnas as dn
from dynnas.export.bundle import export_model
from dynnas.nn import Conv2d, EarlyExits, Skippable
from dynnas.nn.slicing import groups
from dynnas.settings.settings import TrainSettings


def unit(into: int, out: int, kernel: int = 1, stride: int = 1, op: str = "static") -> nn.Sequential:
    """A convolution and its batch norm."""
    conv = Conv2d(into, out, kernel, stride, padding=kernel // 2, bias=False, op=op)
    return nn.Sequential(conv, nn.BatchNorm2d(out))


class Attention(nn.Module):
    """Attention over the pixels of a map, with values twice as wide as keys and a bias for each distance."""

    elastic: ClassVar = {
        "qkv.0.conv.weight": groups("heads"),
        "qkv.1.weight": groups("heads"),
        "qkv.1.bias": groups("heads"),
        "out.1.0.conv.weight": groups("heads", axis=1),
    }
    KEY, VALUE = 8, 16

    def __init__(self, width: int, heads: int, side: int):
        super().__init__()
        self.heads = heads
        self.qkv = unit(width, heads * (2 * self.KEY + self.VALUE))
        self.out = nn.Sequential(nn.Hardswish(), unit(heads * self.VALUE, width))
        self.bias = nn.Parameter(torch.zeros(heads, side * side))
        at = torch.cartesian_prod(torch.arange(side), torch.arange(side))
        far = (at[:, None] - at[None]).abs()
        self.register_buffer("distance", far[..., 0] * side + far[..., 1], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        parts = self.qkv(x).flatten(2).unflatten(1, (self.heads, -1))
        q, k, v = parts.split([self.KEY, self.KEY, self.VALUE], dim=2)
        scores = q.transpose(2, 3) @ k * self.KEY**-0.5 + self.bias[:, self.distance]
        mixed = v @ scores.softmax(3).transpose(2, 3)
        return self.out(mixed.flatten(1, 2).unflatten(2, x.shape[2:]))


class Layer(nn.Module):
    """Attention, then an MLP of pixels, which images may pass by."""

    def __init__(self, width: int, heads: int, side: int, ratio: int, skip: bool):
        super().__init__()
        self.attention = Attention(width, heads, side)
        self.mlp: nn.Module = nn.Sequential(
            unit(width, ratio * width), nn.Hardswish(), unit(ratio * width, width)
        )
        if skip:
            self.mlp = Skippable(Shortcut(self.mlp), width)
        else:
            self.mlp = Shortcut(self.mlp)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, width, H, W) to the same shape."""
        return self.mlp(x + self.attention(x))


class Shortcut(nn.Module):
    """A module beside its own input."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return x + self.module(x)


class LeViT(nn.Module):
    """Images (B, channels, size, size) to logits (B, classes)."""

    def __init__(
        self,
        widths: tuple[int, int],
        depth: tuple[int, int],
        heads: tuple[int, int] = (2, 4),
        ratio: int = 2,
        op: str = "static",
        skip: bool = False,
        exit: bool = False,
        threshold: float = 0.8,
        size: int = 32,
        reductions: int = 2,
        channels: int = 3,
        classes: int = 10,
    ):
        super().__init__()
        first, second = widths
        stem: list[nn.Module] = []
        for at in range(reductions):
            out = first * 2 ** (at + 1) // 2**reductions
            stem += [unit(channels, out, 3, 2, op), nn.Hardswish()]
            channels, size = out, -(-size // 2)
        small = -(-size // 2)
        stages = [
            nn.Sequential(*stem, *(Layer(first, heads[0], size, ratio, skip) for _ in range(depth[0]))),
            nn.Sequential(
                unit(first, second, 3, 2, op),
                *(Layer(second, heads[1], small, ratio, skip) for _ in range(depth[1])),
            ),
        ]
        exits = [leave(first, classes) if exit else None, leave(second, classes)]
        self.body = EarlyExits(stages, exits, threshold=threshold)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.body(x)


def leave(width: int, classes: int) -> nn.Module:
    """A classifier of a map."""
    return nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(width), nn.Linear(width, classes)
    )


def space_of(size: int = 32, channels: int = 3, classes: int = 10, reductions: int = 2) -> dn.Space:
    """Return the design space for images of a size, which `reductions` convolutions halve."""
    return dn.Space.of(
        LeViT,
        widths=[(16, 24), (24, 32), (32, 48)],
        depth=[(1, 1), (1, 2), (2, 2)],
        heads=[(1, 2), (2, 4)],
        ratio=[1, 2],
        op=["static", "condconv"],
        skip=[False, True],
        exit=[False, True],
        threshold=dn.when(exit=True, choose=[0.7, 0.9]),
        size=size,
        reductions=reductions,
        channels=channels,
        classes=classes,
    )


def main(folder: str | None = None, trials: int = 6, epochs: int = 4) -> None:
    """Search on the digits, print the front and export its knee."""
    front = dn.search(
        space_of(size=8, channels=1, reductions=1),
        data="digits",
        train=TrainSettings(epochs=epochs, batch=64, calibration_images=64),
        target=dn.Target("cpu", seconds=0.05, images=16),
        trials=trials,
        controls=False,
        folder=folder,
    )
    print(front)
    study, knee = front.study, front.pick("knee")
    manifest = export_model(study.network(knee.key), study.dataset, Path(folder or ".") / "knee", images=64)
    for model in manifest["artifacts"]:
        print(model["file"], f"differs from torch by at most {model['largest_difference']:.1g}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
