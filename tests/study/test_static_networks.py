"""The static part of classes of one's own, against all of their networks."""

from typing import ClassVar

import pytest
from torch import nn

import dynnas as dn
from dynnas.nn import Conv2d, EarlyExits, Skippable
from dynnas.nn.per_image import layers_per_image
from dynnas.report.tables.table import is_dynamic
from dynnas.space.moves import enumerate_all
from dynnas.study.controls import uniform_widths
from dynnas.study.static_part import static_part


class Own(nn.Module):
    """A choice of its own for each layer, a skipped one, an exit, and a layer that says what it is."""

    def __init__(
        self,
        depth: int = 2,
        op: tuple[str, ...] = ("static", "static"),
        experts: tuple[int, ...] = (2, 2),
        skip: bool = False,
        exit: bool = False,
        threshold: float = 0.5,
        own: bool = False,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            Conv2d(4, 4, 3, padding=1, op=kind, experts=number)
            for kind, number in zip(op, experts, strict=True)
        ]
        if skip:
            layers[-1] = Skippable(layers[-1], 4)
        stages = [nn.Sequential(Conv2d(3, 4, 1), *layers), nn.Sequential()]
        heads = [leave() if exit else None, leave()]
        self.body = EarlyExits(stages, heads, threshold=threshold)
        self.body.input_dependent = False
        self.own = nn.Identity()
        self.own.input_dependent = own


def leave() -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


CHOICES = {
    "op": dn.each("depth", choose=["static", "condconv"]),
    "experts": dn.each("depth", choose=[2, 4]),
    "skip": [False, True],
    "exit": [False, True],
    "threshold": dn.when(exit=True, choose=[0.5, 0.9]),
    "own": [False, True],
}


@pytest.mark.parametrize("names", [list(CHOICES), ["op", "experts"], ["exit", "threshold"], ["own"]])
def test_it_holds_the_static_networks_and_no_others(names: list[str]) -> None:
    space = dn.Space.of(Own, depth=[1, 2] if "op" in names else 2, **{name: CHOICES[name] for name in names})
    part = static_part(space)
    assert part is not None
    everything = list(enumerate_all(space))
    static = {each for each in everything if not layers_per_image(space.build(each))}
    assert 0 < len(static) < len(everything)
    assert {space.architecture(each) for each in enumerate_all(part)} == static
    assert {each for each in everything if not is_dynamic(each, space)} == static
    assert uniform_widths(part) == ()


def test_where_nothing_is_dynamic_there_is_nothing_to_compare_with() -> None:
    space = dn.Space.of(Own, depth=2, threshold=[0.5, 0.9])
    assert static_part(space) is None
    assert not any(is_dynamic(each, space) for each in enumerate_all(space))


def test_a_class_may_state_what_is_static() -> None:
    class Stated(Own):
        static_values: ClassVar = {"own": False}

    space = dn.Space.of(Stated, depth=2, own=[False, True], skip=[False, True])
    part = static_part(space)
    assert part is not None
    assert {each["own"] for each in enumerate_all(part)} == {False}
    assert [is_dynamic(each, space) for each in enumerate_all(space)] == [False, False, True, True]


def test_none_of_it_may_be_static() -> None:
    space = dn.Space.of(Own, depth=2, op=[("condconv", "static"), ("static", "dyconv")])
    assert static_part(space) is None
    assert all(is_dynamic(each, space) for each in enumerate_all(space))
