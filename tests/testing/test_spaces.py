"""The check of a class that is to be a space: it passes what is right, and says what is wrong."""

import random
from typing import ClassVar

import pytest
import torch
from support.own_networks import ConvNet, Sequence, UNet, ViT
from torch import nn

import dynnas as dn
from dynnas.nn.slicing import leading
from dynnas.testing import check_space

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randint(0, 11, (4, 6), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("space", "x"),
    [
        (dn.Space.of(ConvNet, depth=[1, 2], width=[4, 8], kernel=[3, 5], squeeze=[None, 2]), IMAGES),
        (dn.Space.of(ViT, dim=[16, 32], heads=[2, 4], mlp_ratio=[1, 2], depth=[1, 2]), IMAGES),
        (dn.Space.of(UNet, width=[4, 8], depth=[1, 2]), IMAGES),
        (dn.Space.of(Sequence, dim=[8, 16], heads=[1, 2], recurrent=["gru", "lstm"]), TOKENS),
    ],
    ids=["convnet", "vit", "unet", "sequence"],
)
def test_ordinary_classes_pass(space, x):
    checked = check_space(space, x, networks=5)
    assert len(checked.architectures) == min(5, space.size)
    assert all(checked.shapes.values())


class Base(nn.Module):
    def __init__(self, width=4):
        super().__init__()
        self.linear = nn.Linear(3, width)

    def forward(self, x):
        return self.linear(x)


class Undecided(Base):
    """Not the same network twice."""

    def __init__(self, width):
        super().__init__(width)
        self.more = nn.Linear(3, random.randint(1, 10**6))


class Noisy(Base):
    """Computes by something else than its weights."""

    calls = 0

    def forward(self, x):
        Noisy.calls += 1
        return super().forward(x) + Noisy.calls


class Misspelled(Base):
    elastic: ClassVar = {"linear.weigth": leading}


class Detached(Base):
    def forward(self, x):
        return super().forward(x).detach()


class Empty(Base):
    def forward(self, x):
        return None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (Noisy, r"Noisy\(width=2\): in training mode, outputs differ by up to 1"),
        (Misspelled, r"Misspelled.elastic has the pattern 'linear.weigth', and no network has a tensor"),
        (Detached, r"Detached\(width=2\): no gradient reaches the weights"),
        (Empty, r"Empty\(width=2\): the outputs hold no tensor"),
    ],
)
def test_what_breaks_the_contract_is_named(model, message):
    with pytest.raises(AssertionError, match=message):
        check_space(dn.Space.of(model, width=[2, 4]), torch.randn(2, 3))


def test_a_class_that_builds_something_else_each_time_is_named():
    with pytest.raises(
        (AssertionError, dn.errors.SpaceError), match=r"Undecided\(|no slice of the shared shape"
    ):
        check_space(dn.Space.of(Undecided, width=[2, 4]), torch.randn(2, 3))
