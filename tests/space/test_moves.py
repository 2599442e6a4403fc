"""sample, mutate, crossover, smallest, largest, enumerate: pure, legal, and as described."""

import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from support.strategies import spaces

from dynnas.language.parser import parse_space
from dynnas.space.gene import Gene
from dynnas.space.moves import crossover, enumerate_all, largest, mutate, sample, smallest
from dynnas.space.space import Space


@given(spaces(), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_every_move_is_legal_and_repeatable(space: Space, seed: int) -> None:
    rng, again = random.Random(seed), random.Random(seed)
    a, b = sample(space, rng), sample(space, rng)
    moved = [a, b, mutate(space, a, rng), mutate(space, a, rng, rate=0.9), crossover(space, a, b, rng)]
    assert [space.architecture(architecture) for architecture in moved] == moved
    assert [sample(space, again), sample(space, again)] == moved[:2]
    assert (mutate(space, a, again) == a) == (space.size == 1)


@given(spaces(), st.integers(0, 10**6))
@settings(max_examples=100, deadline=None)
def test_crossover_takes_every_shared_gene_from_a_parent(space: Space, seed: int) -> None:
    rng = random.Random(seed)
    a, b = sample(space, rng), sample(space, rng)
    child = crossover(space, a, b, rng)
    for name, value in child.items():
        assert value in [parent[name] for parent in (a, b) if name in parent] or not (name in a or name in b)
    assert crossover(space, a, a, rng) == a


def test_smallest_and_largest_take_the_ends() -> None:
    space = parse_space(
        """
        input: {resolutions: [32, 24]}
        stem: {width: [16, 8]}
        stages:
          - {width: [8, 16], depth: [3, 1], op: [dynet, condconv, static], experts: [4, 2], group: [6, 2],
             attention: [se, none]}
          - {width: 8}
        exits: {positions: [stage1]}
        """
    )
    least, most = smallest(space), largest(space)
    assert (least["resolution"], least["stem.width"], least["stage1.depth"]) == (24, 8, 1)
    assert (least["stage1.0.op"], least["stage1.0.attention"], least["exits.at"]) == (
        "static",
        "none",
        "none",
    )
    assert "stage1.1.op" not in least
    assert (most["resolution"], most["stem.width"], most["stage1.depth"]) == (32, 16, 3)
    assert (most["stage1.2.op"], most["stage1.2.group"], most["exits.at"]) == ("dynet", 6, "stage1")
    assert most["exits.stage1.threshold"] == 0.8


def test_ordered_genes_move_to_a_neighbour_more_often_than_not() -> None:
    space = Space("line", (Gene("x", tuple(range(11)), ordered=True),))
    middle = space.architecture({"x": 5})
    rng = random.Random(0)
    steps = Counter(abs(int(mutate(space, middle, rng)["x"]) - 5) for _ in range(2000))
    assert 0.55 < steps[1] / 2000 < 0.65  # half by a step, and a fifth of the other half
    assert steps[0] == 0


def test_mutation_rate_sets_how_much_changes() -> None:
    space = Space("wide", tuple(Gene(f"g{index}", ("a", "b", "c")) for index in range(40)))
    rng = random.Random(0)
    start = smallest(space)

    def changed(rate: float | None) -> int:
        return sum(value != start[name] for name, value in mutate(space, start, rng, rate).items())

    assert all(changed(0.0) == 1 for _ in range(20))
    assert changed(1.0) == 40
    assert 1 <= sum(changed(None) for _ in range(200)) / 200 < 2


def test_sampling_draws_each_gene_uniformly() -> None:
    space = Space("one", (Gene("x", ("a", "b", "c", "d")),))
    rng = random.Random(1)
    drawn = Counter(sample(space, rng)["x"] for _ in range(4000))
    assert all(abs(drawn[value] - 1000) < 120 for value in "abcd")


def test_enumeration_starts_with_the_smallest_and_ends_with_the_largest(choices: Space) -> None:
    every = list(enumerate_all(choices))
    assert len(every) == choices.size == 3 * 3 * 3 * 3 * 3
    assert (every[0], every[-1]) == (smallest(choices), largest(choices))
