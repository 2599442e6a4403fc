"""Layers of `dynnas.nn` inside a class of one's own that is a design space."""

import random

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import dynnas.nn as dnn
from dynnas.space.choices import when
from dynnas.space.moves import sample
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet


class Net(nn.Module):
    """Two stages with an exit behind each; the second may be passed by."""

    def __init__(
        self,
        width: int,
        kernel: int,
        op: str,
        attention: str,
        activation: str,
        skips: str,
        experts: int = 4,
    ):
        super().__init__()
        conv = dnn.Conv2d(width, width, kernel, padding="same", op=op, experts=experts, group=experts)
        first = nn.Sequential(
            dnn.Conv2d(3, width, 3, stride=2, padding=1, op=op, experts=experts, group=experts),
            nn.BatchNorm2d(width),
            dnn.activation(activation, width),
            dnn.attention(attention, width),
        )
        second = dnn.Skippable(conv, width) if skips == "yes" else conv
        heads = [nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5)) for _ in range(2)]
        self.body = dnn.EarlyExits([first, second], heads)

    def forward(self, x):
        return self.body(x)


@pytest.fixture(scope="module")
def space() -> Space:
    return Space.of(
        Net,
        width=[8, 12],
        kernel=[3, 5],
        op=["static", "condconv", "dyconv", "dynet", "weightnet", "deformable", "pac", "hypernet"],
        experts=when(op=["condconv", "dyconv", "dynet", "weightnet"], choose=[2, 4]),
        attention=["none", "se", "eca", "cbam"],
        activation=["relu", "dyrelu_b"],
        skips=["no", "yes"],
    )


def test_elastic_equals_extracted(space: Space) -> None:
    supernet = Supernet(space).train()
    x = torch.randn(4, 3, 12, 12)
    rng = random.Random(0)
    seen = set()
    for _ in range(40):
        architecture = sample(space, rng)
        seen.add(architecture["op"])
        torch.manual_seed(0)
        found = supernet(architecture, x)
        extracted = supernet.extract(architecture).train()
        torch.manual_seed(0)
        expected = extracted(x)
        assert len(found) == 2
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other, rtol=0, atol=0)
    assert len(seen) == 8
    assert isinstance(supernet.extract(sample(space, rng)), Net)
