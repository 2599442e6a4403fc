"""The networks of NAS-Bench-Macro (Su et al. 2021, arXiv:2103.11922) as an own class, and their space."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from dynnas.nn.layers.resize import resize
from dynnas.space.space import Space

LAYERS = 8
STRIDED = (0, 2, 5)
"""The layers that halve the sides and double the channels: the first of stages of 2, 3 and 3 layers."""

WIDTH, LAST = 32, 1280
EXPANSIONS = {1: (3, 3), 2: (6, 5)}
"""Expansion and kernel of MobileNetV2's block, by the choice of a layer; 0 is the identity."""


class Identity(nn.Module):
    """Nothing, or a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.project = (
            nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            if stride > 1
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x)


class InvertedResidual(nn.Module):
    """MobileNetV2's block, with ReLU."""

    def __init__(self, before: int, after: int, stride: int, expand: int, kernel: int) -> None:
        super().__init__()
        hidden = before * expand
        self.adds = stride == 1
        self.expand = nn.Sequential(nn.Conv2d(before, hidden, 1, bias=False), nn.BatchNorm2d(hidden))
        self.depthwise = nn.Sequential(
            nn.Conv2d(hidden, hidden, kernel, stride, kernel // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden),
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, after, 1, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))
        return x + y if self.adds else y


class MacroNet(nn.Module):
    """A network of the benchmark.

    With the sharing `separate` each choice of a layer has weights of its own, as in the benchmark's authors'
    supernets; with `sliced` the small block is the leading channels and the middle of the kernel of the large
    one. Images are brought to `side` pixels; the benchmark's have 32.
    """

    def __init__(self, sharing: str = "separate", side: int = 32, classes: int = 10, **layers: int) -> None:
        super().__init__()
        self.side, channels = side, WIDTH
        self.stem = nn.Sequential(nn.Conv2d(3, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH))
        self.layers = nn.ModuleList()
        for at in range(LAYERS):
            choice, stride = layers[f"layer{at + 1}"], 2 if at in STRIDED else 1
            shape = channels, channels * stride, stride
            block = InvertedResidual(*shape, *EXPANSIONS[choice]) if choice else Identity(*shape)
            name = f"op{choice}" if sharing == "separate" or not choice else "block"
            self.layers.append(nn.ModuleDict({name: block}))
            channels *= stride
        self.last = nn.Sequential(nn.Conv2d(channels, LAST, 1, bias=False), nn.BatchNorm2d(LAST))
        self.classifier = nn.Linear(LAST, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(resize(x, self.side)))
        for layer in self.layers:
            (block,) = layer.values()  # type: ignore[operator]
            x = block(x)
        return self.classifier(torch.relu(self.last(x)).mean((2, 3)))


def macro_net(
    layer1: int, layer2: int, layer3: int, layer4: int, layer5: int, layer6: int, layer7: int, layer8: int,
    sharing: str = "separate", side: int = 32,
) -> MacroNet:  # fmt: skip
    """A network by its choices, one argument each."""
    given = (layer1, layer2, layer3, layer4, layer5, layer6, layer7, layer8)
    return MacroNet(sharing, side, **{f"layer{at}": choice for at, choice in enumerate(given, 1)})


def macro_space(sharing: str = "separate", side: int = 32) -> Space:
    """All 6,561 networks."""
    choices: Mapping[str, Any] = {f"layer{at + 1}": [0, 1, 2] for at in range(LAYERS)}
    return Space.of(partial(macro_net, sharing=sharing, side=side), choices)
