"""A vision transformer of one's own as a design space: ordinary torch, and what may be chosen of it.

    python docs/examples/vit.py [STUDY_FOLDER]

Chosen are the patch, the width, the depth, the heads and the MLP's ratio of every layer, mixtures of experts
in the MLPs (each expert takes the tokens that it wants most: Zhou et al. 2022, arXiv:2202.09368), a layer
behind which the tokens that the class token hardly looks at leave (EViT: Liang et al. 2022,
arXiv:2202.07800), and an early exit for images. The networks are searched on scikit-learn's digits, and the
knee is exported.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import dynnas as dn
from dynnas.export.bundle import export_model
from dynnas.nn import EarlyExits
from dynnas.nn.slicing import groups
from dynnas.settings.settings import TrainSettings


class Attention(nn.Module):
    """Attention of heads of a fixed width, so that another number of heads leaves each head as it is."""

    # Of the fused projection (3, heads, HEAD) and of what joins the heads, fewer heads take the first ones.
    elastic: ClassVar = {"qkv.*": groups(3, "heads"), "out.weight": groups("heads", axis=1)}
    HEAD = 8

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * heads * self.HEAD)
        self.out = nn.Linear(heads * self.HEAD, width)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, N, width) to the same shape, and to how much the class token looks at each token (B, N)."""
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, self.HEAD)).permute(2, 0, 3, 1, 4)
        looks = (q[:, :, :1] @ k.transpose(2, 3) * self.HEAD**-0.5).softmax(3).mean((1, 2))
        mixed = F.scaled_dot_product_attention(q, k, v)
        return self.out(mixed.transpose(1, 2).flatten(2)), looks


class Experts(nn.Module):
    """A mixture of MLPs: together they run as many tokens as there are, each those that it wants most."""

    input_dependent = True  # so that reports and controls count it among what is dynamic

    def __init__(self, width: int, hidden: int, experts: int):
        super().__init__()
        self.router = nn.Linear(width, experts, bias=False)
        self.experts = nn.ModuleList(mlp(width, hidden) for _ in range(experts))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to the same shape; a token that no expert takes gets nothing."""
        shares = self.router(x).softmax(2)
        taken = (x.shape[1] + len(self.experts) - 1) // len(self.experts)
        y = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            share, rows = shares[:, :, number].topk(taken, dim=1)
            places = rows[:, :, None].expand(-1, -1, x.shape[2])
            said = share[:, :, None] * expert(x.gather(1, places))
            y = y.scatter_add(1, places, said.to(y.dtype))
        return y


def mlp(width: int, hidden: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class Layer(nn.Module):
    """Attention and an MLP; of its tokens the class token and a share of the others go on."""

    def __init__(self, width: int, heads: int, ratio: float, experts: int, kept: float):
        super().__init__()
        self.kept, self.input_dependent = kept, kept < 1
        self.norm1, self.attention = nn.LayerNorm(width), Attention(width, heads)
        hidden = int(width * ratio)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = mlp(width, hidden) if experts == 1 else Experts(width, hidden, experts)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to (B, M, width)."""
        attended, looks = self.attention(self.norm1(x))
        x = x + attended
        if self.kept < 1:
            places = looks[:, 1:].topk(max(1, int(self.kept * (x.shape[1] - 1))), dim=1).indices + 1
            x = torch.cat([x[:, :1], x.gather(1, places[:, :, None].expand(-1, -1, x.shape[2]))], dim=1)
        return x + self.mlp(self.norm2(x))


class Exit(nn.Module):
    """A classifier of the class token."""

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, N, width) to (B, classes)."""
        return self.linear(self.norm(x[:, 0]))


class ViT(nn.Module):
    """Images (B, channels, size, size) to logits (B, classes)."""

    def __init__(
        self,
        depth: int,
        width: int,
        heads: tuple[int, ...],
        ratio: tuple[float, ...],
        patch: int = 4,
        experts: int = 1,
        kept: float = 1.0,
        exit: bool = False,
        threshold: float = 0.8,
        size: int = 32,
        channels: int = 3,
        classes: int = 10,
    ):
        super().__init__()
        # Under the name of its patch: patches of different sizes have no pixels in common.
        self.embed = nn.ModuleDict({f"patch{patch}": nn.Conv2d(channels, width, patch, patch)})
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer("places", places(size // patch, width), persistent=False)
        half = (depth + 1) // 2  # behind it tokens leave, and images
        layers = [
            Layer(width, heads[at], ratio[at], experts, kept if at == half - 1 else 1.0)
            for at in range(depth)
        ]
        first, second = nn.Sequential(*layers[:half]), nn.Sequential(*layers[half:])
        exits = [Exit(width, classes) if exit else None, Exit(width, classes)]
        self.body = EarlyExits([first, second], exits, threshold=threshold)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        (embed,) = self.embed.values()
        x = embed(x).flatten(2).transpose(1, 2) + self.places
        return self.body(torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1))


def places(side: int, width: int) -> Tensor:
    """Sines and cosines of the coordinates of side x side patches: (1, side * side, width)."""
    steps = torch.arange(side) / side
    waves = 2.0 ** torch.arange(width // 4)
    angles = steps[:, None] * waves * torch.pi  # (side, width / 4)
    one = torch.cat([angles.sin(), angles.cos()], dim=1)
    grid = torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], dim=2)
    return grid.flatten(0, 1)[None]


def space_of(
    size: int = 32, channels: int = 3, classes: int = 10, patches: tuple[int, ...] = (4, 8)
) -> dn.Space:
    """Return the design space for images of a size."""
    return dn.Space.of(
        ViT,
        depth=[2, 3, 4],
        width=[32, 48, 64],
        heads=dn.each("depth", choose=[2, 4]),
        ratio=dn.each("depth", choose=[1.0, 2.0, 3.0]),
        patch=list(patches),
        experts=[1, 2],
        kept=[1.0, 0.7, 0.5],
        exit=[False, True],
        threshold=dn.when(exit=True, choose=[0.7, 0.9]),
        size=size,
        channels=channels,
        classes=classes,
    )


def main(folder: str | None = None, trials: int = 6, epochs: int = 4) -> None:
    """Search on the digits, print the front and export its knee."""
    front = dn.search(
        space_of(size=8, channels=1, patches=(2, 4)),
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
