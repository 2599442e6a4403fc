"""Numbers that modules keep and count with: parts and multiples of them, rests, heads, first states."""

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import dynnas as dn
from dynnas.space.moves import sample

MEMBERS = 12


class Part(nn.Module):
    """Splits by a half of a number, as CSPNet does (Wang et al. 2020)."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.first = nn.Conv2d(channels, channels, 1)
        self.narrow = nn.Conv2d(channels // 2, channels // 2, 3, padding=1)
        self.last = nn.Conv2d(channels + channels // 2, channels, 1)

    def forward(self, x):
        one, other = self.first(x).split(self.channels // 2, 1)
        return self.last(torch.cat([one, other, self.narrow(other)], 1))


class Beginning(nn.Module):
    """Cuts a quarter of its channels off."""

    def __init__(self, channels):
        super().__init__()
        self.channels = channels
        self.first = nn.Conv2d(channels, channels, 1)
        self.quarter = nn.Conv2d(channels // 4, channels // 4, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        return torch.cat([self.quarter(x[:, : self.channels // 4]), x[:, self.channels // 4 :]], 1)


class Rest(nn.Module):
    """Splits into a number of channels and what is left, as FasterNet does (Chen et al. 2023)."""

    def __init__(self, channels):
        super().__init__()
        self.channels, self.some = channels, channels // 4
        self.first = nn.Conv2d(channels, channels, 1)
        self.quarter = nn.Conv2d(self.some, self.some, 3, padding=1)

    def forward(self, x):
        one, other = self.first(x).split([self.some, self.channels - self.some], 1)
        return torch.cat([self.quarter(one), other], 1)


class OfTokens(nn.Module):
    """Maps (B, C, H, W) through something that takes tokens (B, H * W, C)."""

    def forward(self, x):
        height, width = x.shape[2:]
        tokens = self.tokens(x.flatten(2).transpose(1, 2))
        return tokens.transpose(1, 2).unflatten(2, (height, width))


class Heads(OfTokens):
    """Attention whose heads are as wide as a part of a number."""

    def __init__(self, channels):
        super().__init__()
        self.width, self.heads = channels, 4
        self.queries, self.keys, self.values, self.out = (nn.Linear(channels, channels) for _ in "1234")

    def tokens(self, x):
        batch, count, _ = x.size()

        def parted(y):
            return y.view(batch, count, self.heads, self.width // self.heads).transpose(1, 2)

        parts = (parted(each(x)) for each in (self.queries, self.keys, self.values))
        y = F.scaled_dot_product_attention(*parts)
        return x + self.out(y.transpose(1, 2).reshape(batch, count, self.width))


class Thrice(OfTokens):
    """Attention that counts with three times a number alone."""

    def __init__(self, channels):
        super().__init__()
        self.width = channels
        self.all, self.out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def tokens(self, x):
        batch, count, _ = x.size()
        queries, keys, values = self.all(x).reshape(batch, count, self.width * 3).chunk(3, 2)
        return x + self.out(torch.softmax(queries @ keys.transpose(1, 2), -1) @ values)


class Recurrent(OfTokens):
    """A recurrent layer by hand, whose first state is of zeros."""

    def __init__(self, channels):
        super().__init__()
        self.hidden = channels
        self.inward, self.onward = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)

    def tokens(self, x):
        state, found = torch.zeros(len(x), self.hidden), []
        for at in range(x.shape[1]):
            state = torch.tanh(self.inward(x[:, at]) + self.onward(state))
            found.append(self.out(state))
        return torch.stack(found, 1)


class Counted(nn.Module):
    """A layer between others; it counts with numbers that it keeps."""

    def __init__(self, layer, channels=64):
        super().__init__()
        self.stem, self.layer = nn.Conv2d(3, channels, 3, 2, 1), layer(channels)
        self.head = nn.Linear(channels, 10)

    def forward(self, x):
        return self.head(self.layer(self.stem(x)).mean((2, 3)))


KINDS = {
    Part: ("layer.first.width", "layer.narrow.width", "layer.last.width"),
    Beginning: ("layer.first.width", "layer.first.width2", "layer.quarter.width"),
    Rest: ("layer.first.width", "layer.first.width2", "layer.quarter.width"),
    Heads: ("layer.queries.width",),
    Thrice: ("layer.all.width",),
    Recurrent: ("layer.inward.width",),
}
"""Widths that can be chosen beside that of the stem."""


@pytest.mark.parametrize("layer", KINDS, ids=lambda layer: layer.__name__)
def test_channels_that_a_module_counts_can_be_chosen(layer):
    torch.manual_seed(0)
    network, image = Counted(layer).eval(), torch.randn(2, 3, 8, 8)
    space = dn.elastic(network, image[:1])
    assert {"stem.width", *KINDS[layer]} <= set(space.model.report.choices)
    assert torch.equal(space.model()(image), network(image))
    rng = random.Random(0)
    for _ in range(MEMBERS):
        member = space.build(sample(space, rng)).eval()
        assert member(image).shape == (2, 10)


def test_a_number_that_counts_channels_thrice_is_a_third_of_them():
    space = dn.elastic(Counted(Thrice).eval(), torch.randn(1, 3, 8, 8))
    member = space.model({"layer.all.width": 96})
    assert (member.layer.all.out_features, member.layer.width) == (96, 32)
