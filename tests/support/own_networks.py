"""Networks as anyone would write them, who knows nothing of supernets but the rule for what is fused."""

import math
from itertools import pairwise
from typing import ClassVar

import torch
from torch import nn
from torch.nn import functional as F

from dynnas.nn.slicing import groups, parts


class ConvNet(nn.Module):
    """A plain convolutional network with batch norm."""

    def __init__(self, depth, width, kernel=3, bias=False, activation="relu", squeeze=None, classes=5):
        super().__init__()
        layers, channels = [], 3
        for stage in range(depth):
            out = width * 2**stage
            layers += [
                nn.Conv2d(channels, out, kernel, stride=2, padding=kernel // 2, bias=bias),
                nn.BatchNorm2d(out),
                {"relu": nn.ReLU, "silu": nn.SiLU, "prelu": nn.PReLU}[activation](),
            ]
            channels = out
        self.features = nn.Sequential(*layers)
        self.squeeze = None
        if squeeze is not None:
            self.squeeze = nn.Sequential(
                nn.AdaptiveAvgPool2d(1),
                nn.Conv2d(channels, channels // squeeze, 1),
                nn.ReLU(),
                nn.Conv2d(channels // squeeze, channels, 1),
                nn.Sigmoid(),
            )
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        x = self.features(x)
        if self.squeeze is not None:
            x = x * self.squeeze(x)
        return self.classifier(x.mean((2, 3)))


class Attention(nn.Module):
    elastic: ClassVar = {"qkv.*": groups(3, "heads"), "proj.weight": groups("heads", axis=1)}

    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x):
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(x.shape))


class Layer(nn.Module):
    def __init__(self, dim, heads, mlp_ratio):
        super().__init__()
        self.norm1, self.attn = nn.LayerNorm(dim), Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(
            nn.Linear(dim, int(dim * mlp_ratio)), nn.GELU(), nn.Linear(int(dim * mlp_ratio), dim)
        )

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """A vision transformer with fused projections and learned positions."""

    def __init__(self, dim=32, depth=2, heads=4, mlp_ratio=2.0, patch=4, size=16, classes=5):
        super().__init__()
        self.embed = nn.Conv2d(3, dim, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, dim) * 0.02)
        self.layers = nn.ModuleList(Layer(dim, heads, mlp_ratio) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(dim), nn.Linear(dim, classes)

    def forward(self, x):
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x)[:, 0])


class Double(nn.Sequential):
    def __init__(self, into, out):
        super().__init__(
            nn.Conv2d(into, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(),
            nn.Conv2d(out, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(),
        )  # fmt: skip


class Up(nn.Module):
    elastic: ClassVar = {"convs.0.weight": parts("skip", "up", axis=1)}

    def __init__(self, below, skip):
        super().__init__()
        self.skip = self.up = skip
        self.rise = nn.ConvTranspose2d(below, skip, 2, 2)
        self.convs = Double(2 * skip, skip)

    def forward(self, x, skip):
        return self.convs(torch.cat([skip, self.rise(x)], 1))


class UNet(nn.Module):
    """A UNet whose decoder reads concatenations."""

    def __init__(self, width, depth, growth=2.0, classes=2):
        super().__init__()
        widths = [int(width * growth**level) for level in range(depth + 1)]
        self.first = Double(3, widths[0])
        self.down = nn.ModuleList(Double(a, b) for a, b in pairwise(widths))
        self.up = nn.ModuleList(Up(b, a) for a, b in pairwise(widths))
        self.head = nn.Conv2d(widths[0], classes, 1)

    def forward(self, x):
        maps = [self.first(x)]
        for down in self.down:
            maps.append(down(F.max_pool2d(maps[-1], 2)))
        x = maps.pop()
        for up in reversed(self.up):
            x = up(x, maps.pop())
        return self.head(x)


class Sequence(nn.Module):
    """Torch's own attention, a recurrent layer, tied weights, and buffers of several kinds."""

    def __init__(self, dim=16, heads=2, depth=1, recurrent="gru", tied=True, length=6, words=11):
        super().__init__()
        self.embed = nn.Embedding(words, dim)
        place = torch.arange(length)[:, None] / 10 ** torch.linspace(0, 2, dim)
        self.register_buffer("waves", torch.sin(place), persistent=False)
        self.register_buffer("order", torch.arange(length).flip(0))
        self.mixing = nn.ModuleList(nn.MultiheadAttention(dim, heads, batch_first=True) for _ in range(depth))
        self.memory = {"gru": nn.GRU, "lstm": nn.LSTM}[recurrent](dim, dim, batch_first=True)
        self.drop_rates = [rate.item() for rate in torch.linspace(0, 0.1, depth)]
        self.scale = torch.tensor(math.sqrt(dim))
        self.out = nn.Linear(dim, words, bias=False)
        if tied:
            self.out.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens) * self.scale + self.waves
        for attention in self.mixing:
            x = x + attention(x, x, x, need_weights=False)[0]
        x = self.memory(x[:, self.order])[0]
        return self.out(x)


class Plain(nn.Module):
    """Convolutions of these widths, and a classifier of digits."""

    def __init__(self, widths, kernel=3):
        super().__init__()
        pairs = pairwise((1, *widths))
        self.body = nn.Sequential(
            *(nn.Sequential(nn.Conv2d(*pair, kernel, 2, kernel // 2), nn.ReLU()) for pair in pairs)
        )
        self.classifier = nn.Linear(widths[-1], 10)

    def forward(self, x):
        return self.classifier(self.body(x).mean((2, 3)))
