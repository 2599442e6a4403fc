"""A choice for each layer: as many values as there are layers, and all combinations of them."""

import itertools
import random

import optuna
import pytest
import torch
from torch import nn

import dynnas as dn
from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.language.sections.model import model_text
from dynnas.samplers.architecture import suggest
from dynnas.space.moves import crossover, enumerate_all, largest, mutate, sample, smallest
from dynnas.testing import check_space


class Tower(nn.Module):
    """Layers of different kernels and activations."""

    def __init__(self, depth, kernel=(3,), width=4, gated=False, act=()):
        super().__init__()
        act = act or ("relu",) * depth
        layers, channels = [], 3
        for size, name in zip(kernel, act, strict=True):
            layers += [nn.Conv2d(channels, width, size, padding=size // 2), getattr(nn.functional, name)]
            channels = width
        self.convs = nn.ModuleList(layers[::2])
        self.acts = layers[1::2]
        self.given = depth, kernel, gated, act

    def forward(self, x):
        for conv, act in zip(self.convs, self.acts, strict=True):
            x = act(conv(x))
        return x.mean((2, 3))


def space_of(depth=(1, 2, 4), **more):
    kernel = dn.each("depth", choose=[3, 5, 7])
    return dn.Space.of(Tower, {"kernel": kernel, "depth": [*depth], **more})


def by_hand(depths, kernels):
    return {(depth, chosen) for depth in depths for chosen in itertools.product(kernels, repeat=depth)}


def test_all_combinations_and_no_others():
    space = space_of()
    found = [space.build(member).given[:2] for member in enumerate_all(space)]
    expected = by_hand((1, 2, 4), (3, 5, 7))
    assert set(found) == expected
    assert space.size == len(found) == len(expected) == 3 + 9 + 81


def test_a_layer_has_a_choice_only_where_there_is_the_layer():
    genes = {gene.name: gene.condition for gene in space_of().genes}
    assert genes == {
        "depth": (),
        "kernel[0]": (("depth", (1, 2, 4)),),
        "kernel[1]": (("depth", (2, 4)),),
        "kernel[2]": (("depth", (4,)),),
        "kernel[3]": (("depth", (4,)),),
    }
    assert dict(smallest(space_of())) == {"depth": 1, "kernel[0]": 3}
    assert list(largest(space_of()).values()) == [4, 7, 7, 7, 7]


def test_a_number_of_layers_that_is_given_makes_as_many_choices():
    space = dn.Space.of(Tower, depth=2, kernel=dn.each("depth", choose=[3, 5]))
    assert {space.build(each).given[1] for each in enumerate_all(space)} == {(3, 3), (3, 5), (5, 3), (5, 5)}


def test_conditions_hold_beside():
    act = dn.when(gated=True, choose=dn.each("depth", choose=["relu", "silu"]))
    space = dn.Space.of(Tower, depth=[1, 2], kernel=dn.each("depth", choose=3), gated=[False, True], act=act)
    found = {space.build(each).given for each in enumerate_all(space)}
    assert len(found) == space.size == 2 + 2 + 4
    assert (1, (3,), False, ("relu",)) in found
    assert (2, (3, 3), True, ("silu", "relu")) in found


def test_values_may_be_given_as_a_tuple():
    space = space_of()
    member = space.architecture({"depth": 2, "kernel": (5, 3)})
    assert dict(member) == {"depth": 2, "kernel[0]": 5, "kernel[1]": 3}
    assert space.arguments(member) == {"depth": 2, "kernel": (5, 3)}
    with pytest.raises(SpaceError, match=r"kernel\[1\] is not given; allowed: 3, 5, 7"):
        space.architecture({"depth": 2, "kernel": (5,)})
    assert space.restrict({"kernel": [3]}).size == 3


def test_moves_and_optuna_stay_in_the_space():
    space, rng = space_of(), random.Random(0)
    members = set(enumerate_all(space))
    for _ in range(30):
        a, b = sample(space, rng), sample(space, rng)
        assert {a, b, mutate(space, a, rng), crossover(space, a, b, rng)} <= members
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        assert suggest(trial, space) in members
        study.tell(trial, 0.0)


def test_weights_are_shared_by_layer():
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    checked = check_space(space_of(), images, networks=6)
    assert checked.shapes["convs/0/weight"] == (4, 3, 7, 7)


def test_a_space_file_says_it_too():
    text = """
    model: test_each:Tower
    choices: {depth: [1, 2], kernel: {each: depth, choose: [3, 5]}}
    """
    space = parse_space(text)
    assert space.digest == dn.Space.of(Tower, depth=[1, 2], kernel=dn.each("depth", choose=[3, 5])).digest
    assert parse_space(model_text(space)).digest == space.digest


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        ([0, 2], r"kernel has a value for each of 'depth', which is \[0, 2\]; allowed: an argument of whole"),
        (["a"], r"which is \['a'\]; allowed: an argument of whole numbers above 0"),
        (True, r"which is \[True\]; allowed"),
    ],
)
def test_a_number_of_layers_is_a_whole_number(depth, message):
    with pytest.raises(SpaceError, match=message):
        dn.Space.of(Tower, depth=depth, kernel=dn.each("depth", choose=[3]))
