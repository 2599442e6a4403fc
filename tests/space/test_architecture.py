"""Architectures as values: equality, keys, JSON."""

import json

import pytest

from dynnas.errors import SpaceError
from dynnas.space.architecture import Architecture
from dynnas.space.gene import Gene
from dynnas.space.space import Space


def test_order_does_not_count() -> None:
    a = Architecture((("x", 1), ("y", "b")))
    b = Architecture((("y", "b"), ("x", 1)))
    assert a == b
    assert hash(a) == hash(b)
    assert a.key == b.key
    assert len({a, b}) == 1


def test_keys_stay_the_same_for_ever() -> None:
    assert Architecture((("stage1.0.op", "static"), ("expand", 2.5), ("depth", 3))).key == "6427f9153526"


@pytest.mark.parametrize("other", [1.0, "1", 2])
def test_values_that_only_look_alike_differ(other: float | str) -> None:
    one, two = Architecture((("x", 1),)), Architecture((("x", other),))
    assert one != two
    assert one.key != two.key


def test_a_space_gives_the_values_its_own_spelling() -> None:
    space = Space("numbers", (Gene("whole", (1, 2)), Gene("real", (1.0, 2.0))))
    spelled = space.architecture({"whole": 1.0, "real": 2})
    assert spelled == space.architecture({"real": 2.0, "whole": 1})
    assert [type(value) for value in spelled.values()] == [int, float]
    assert space.architecture(Architecture.from_json(spelled.to_json())) == spelled


def test_true_is_not_one() -> None:
    space = Space("numbers", (Gene("x", (0, 1)),))
    with pytest.raises(SpaceError, match=r"x is True; allowed: 0, 1"):
        space.architecture({"x": True})


def test_json_round_trip() -> None:
    architecture = Architecture((("resolution", 8), ("expand", 1.5), ("op", "größer")))
    assert Architecture.from_json(architecture.to_json()) == architecture
    assert list(Architecture.from_json(architecture.to_json())) == ["resolution", "expand", "op"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("9" * 5000, "not JSON"),
        ("[]", "found format None"),
        ('{"dynnas_architecture": 99, "genes": {}}', "found format 99, this dynnas reads 1"),
        ('{"dynnas_architecture": 1}', "must map gene names to values"),
        ('{"dynnas_architecture": 1, "genes": {"a": {}}}', "must map gene names"),
        ('{"dynnas_architecture": 1, "genes": {"a": [{}]}}', "must map gene names"),
        ('{"dynnas_architecture": 1, "genes": {"a": NaN}}', "must map gene names"),
    ],
)
def test_other_documents_are_refused(text: str, message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        Architecture.from_json(text)


def test_the_document_names_its_format() -> None:
    assert json.loads(Architecture((("x", 1),)).to_json()) == {"dynnas_architecture": 1, "genes": {"x": 1}}
