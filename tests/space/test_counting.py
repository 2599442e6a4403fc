"""Exact sizes: against brute force on random spaces, against hand-worked values, and fast on huge ones."""

import time
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from support.strategies import spaces

from dynnas.language.parser import parse_space
from dynnas.space.gene import Gene
from dynnas.space.moves import enumerate_all
from dynnas.space.space import Space


def by_brute_force(space: Space) -> set[frozenset[tuple[str, object]]]:
    """Every combination of all values, inactive genes dropped: written without the code under test."""

    def active(values: dict[str, object]) -> Iterator[tuple[str, object]]:
        kept: dict[str, object] = {}
        for gene in space.genes:
            if all(name in kept and kept[name] in allowed for name, allowed in gene.condition):
                kept[gene.name] = values[gene.name]
        yield from kept.items()

    names = [gene.name for gene in space.genes]
    every = product(*(gene.values for gene in space.genes))
    return {frozenset(active(dict(zip(names, values, strict=True)))) for values in every}


@given(spaces())
@settings(max_examples=200, deadline=None)
def test_size_and_enumeration_agree_with_brute_force(space: Space) -> None:
    expected = by_brute_force(space)
    listed = [frozenset(architecture.items()) for architecture in enumerate_all(space)]
    assert space.size == len(expected)
    assert len(listed) == len(expected)
    assert set(listed) == expected


@pytest.mark.parametrize(
    ("stage", "size"),
    [
        ("width: 8", 1),
        ("width: [8, 16], depth: [1, 2]", 4),
        ("width: 8, kernel: [3, 5], depth: [1, 2]", 2 + 4),
        ("width: 8, op: [static, condconv, dynet], experts: [2, 4], group: [1, 2, 3]", 1 + 2 + 3),
        ("width: 8, block: [conv, mbconv], expand: [2, 3], depth: [1, 3]", 3 + 3**3),
        ("width: 8, depth: 2, op: [static, dynet], group: [2, 4], layers: {0: {op: static}}", 3),
    ],
)
def test_hand_worked_sizes(stage: str, size: int) -> None:
    text = f"input: {{resolutions: 8}}\nstem: {{width: 8}}\nstages: [{{{stage}}}]"
    assert parse_space(text).size == size


def test_exits_are_counted_by_their_places() -> None:
    # none; one of two places x 2 thresholds; both x 2 x 2 thresholds; and 3 widths wherever there is an exit
    text = """
        input: {resolutions: 8}
        stem: {width: 8}
        stages: [{width: 8}, {width: 8}, {width: 8}]
        exits: {positions: [stage1, stage2], thresholds: [0.7, 0.9], width: [8, 16, 32]}
    """
    assert parse_space(text).size == 1 + 3 * (2 + 2 + 4)


def test_a_huge_space_is_counted_at_once() -> None:
    layer = "op: [static, condconv, dyconv, dynet], experts: [2, 4, 8], group: [2, 4], kernel: [3, 5, 7]"
    stage = f"{{depth: {{from: 1, to: 8, step: 1}}, width: [8, 16], attention: [none, se], {layer}}}"
    text = f"input: {{resolutions: 8}}\nstem: {{width: 8}}\nstages: [{', '.join([stage] * 6)}]"
    space = parse_space(text)
    started = time.perf_counter()
    # a layer: (1 + 3 + 3 + 2 ops) x 3 kernels x 2 attentions = 54; a stage: 2 widths x sum of 54^depth
    assert space.size == (2 * sum(54**depth for depth in range(1, 9))) ** 6
    assert time.perf_counter() - started < 10  # one by one it would take years
    assert space.size > 10**80


def test_conditions_that_reach_far_back_are_counted() -> None:
    middle = tuple(Gene(f"m{index}", ("a", "b")) for index in range(60))
    space = Space("far", (Gene("first", (1, 2)), *middle, Gene("last", ("x", "y", "z"), (("first", (2,)),))))
    assert space.size == 2**60 * (1 + 3)
