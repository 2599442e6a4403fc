"""What cannot work with a class of one's own is said before a training, with the values and the remedy."""

import random
from typing import ClassVar

import pytest
import torch
from support.mynet import MyNet
from support.own_branches import Branchy
from torch import nn

import dynnas as dn
from dynnas.data.load import load_data
from dynnas.errors import SpaceError
from dynnas.nn.slicing import leading
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.supernet.checks import check_networks

SHAPE = (3, 8, 8)
IMAGES = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(0))


class Base(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3)
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        return self.head(self.conv(x).mean((2, 3)))


class Undecided(Base):
    def __init__(self, width):
        super().__init__(width + random.randint(0, 10**6))


class Aliased(Base):
    def __init__(self, width):
        super().__init__(width)
        self.twin = nn.Parameter(self.conv.weight.data)


class Noisy(Base):
    def forward(self, x):
        return super().forward(x + torch.rand_like(x))


class Peeking(Base):
    def forward(self, x):
        if x.mean() > 0:
            x = x * 2
        return super().forward(x)


class Picking(Base):
    def forward(self, x):
        y = super().forward(x)
        y[x.mean((1, 2, 3)) > 0] += 1
        return y[y[:, 0].argsort()] + len(y[y > 0])


class Wide(Base):
    def __init__(self, width):
        super().__init__(width)
        self.conv = nn.Conv2d(1, width, 3)


class OldNorm(Base):
    def __init__(self, width):
        super().__init__(width)
        self.conv = nn.utils.weight_norm(self.conv)


class Flat(Base):
    def forward(self, x):
        return super().forward(x).flatten()


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            Undecided,
            r"Undecided\(width=2\) is another network each time it is built: conv.bias has the shapes "
            r"\(\d+,\) and \(\d+,\); build it by its arguments alone",
        ),
        (Aliased, r"Aliased\(width=2\): the parameters twin and conv.weight are two that share their memory"),
        (
            Noisy,
            r"Noisy\(width=2\) is not deterministic: in eval mode the same images give outputs that ",
        ),
        (
            Peeking,
            r"Peeking\(width=2\) decides by the values of its input what it runs \(test_checks.py, line \d+: "
            r"if x.mean\(\) > 0:\): .* use dynnas.nn.EarlyExits",
        ),
        (Picking, r"Picking\(width=2\) decides by the values of its input what it runs \(test_checks.py, "),
        (
            Wide,
            r"Wide\(width=2\) cannot be run on images \(2, 3, 8, 8\): RuntimeError: .* must take what ",
        ),
        (
            OldNorm,
            r"OldNorm\(width=2\) cannot be copied: RuntimeError: Only Tensors created explicitly "
            r".* torch.nn.utils.parametrizations.weight_norm can be copied",
        ),
        (
            Flat,
            r"Flat\(width=2\) gives \(8,\) for images \(2, 3, 8, 8\); allowed: a tensor with a row for",
        ),
    ],
)
def test_what_cannot_work_is_named(model, message):
    with pytest.raises(SpaceError, match=message):
        check_networks(dn.Space.of(model, width=[2, 4]), SHAPE)


def test_outputs_are_those_of_the_data():
    space = dn.Space.of(Base, width=[2, 4])
    check_networks(space, SHAPE, 4)
    with pytest.raises(SpaceError, match=r"Base\(width=2\) gives 4 outputs, and the data ask for 10; let "):
        check_networks(space, SHAPE, 10)


def test_what_is_no_module_is_named():
    with pytest.raises(SpaceError, match=r"nothing\(width=2\) gives NoneType; needed is a torch.nn.Module"):
        check_networks(dn.Space.of(nothing, width=[2, 4]), SHAPE)


def nothing(width):
    """Forget to return a network."""


class Spectral(Base):
    def __init__(self, width):
        super().__init__(width)
        nn.utils.parametrizations.spectral_norm(self.conv)


def test_a_state_of_a_training_is_refused_unless_a_rule_shares_it():
    torch.manual_seed(0)
    message = r"keeps a state in training: its buffer conv.parametrizations.weight.0._u is another one after"
    with pytest.raises(SpaceError, match=message):
        check_networks(dn.Space.of(Spectral, width=[16, 32]), SHAPE)

    class Shared(Spectral):
        elastic: ClassVar = {"conv.parametrizations.weight.0._[uv]": leading}

    space = dn.Space.of(Shared, width=[16, 32])
    check_networks(space, SHAPE)
    supernet = dn.Supernet(space).train()
    member = supernet.extract(space.architecture({"width": 16})).train()
    for _ in range(3):
        assert torch.equal(supernet(space.architecture({"width": 16}), IMAGES), member(IMAGES))


def test_dynamic_layers_are_no_forward_that_depends_on_data():
    check_networks(dn.Space.of(Branchy, depth=[1, 2], op=["static", "dyconv"]), (3, 12, 12))


def test_tied_parameters_are_one():
    class Tied(Base):
        def __init__(self, width):
            super().__init__(width)
            self.twin = self.conv.weight

    check_networks(dn.Space.of(Tied, width=[2, 4]), SHAPE)


def test_a_search_says_so_before_it_trains(tmp_path):
    class Broken(MyNet):
        def forward(self, x):
            return super().forward(x) if x.sum() > 0 else super().forward(-x)

    with pytest.raises(SpaceError, match=r"Broken\(depth=1, width=4\) decides by the values of its input"):
        dn.search(
            dn.Space.of(Broken, depth=[1, 2], width=4),
            data=load_data(DataSettings(train_images=256)),
            target=dn.Target("cpu", seconds=0.01),
            train=TrainSettings(epochs=1),
            trials=2,
            folder=tmp_path / "study",
        )
