"""Rows of numbers are the same architectures, and vary as the space's own moves do."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tables import conditional_space, grid_space

from dynnas.samplers.genome import INACTIVE, Genome
from dynnas.space.gene import Gene
from dynnas.space.moves import enumerate_all, largest, sample, smallest
from dynnas.space.space import Space


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Genes of two to four numbers or texts, each on any values of any gene before it."""
    genes: list[Gene] = []
    for number in range(draw(st.integers(1, 6))):
        ordered = draw(st.booleans())
        count = draw(st.integers(1, 4))
        values = tuple(range(count)) if ordered else tuple("abcd"[:count])
        condition = ()
        if genes and draw(st.booleans()):
            parent = draw(st.sampled_from(genes))
            allowed = draw(st.lists(st.sampled_from(parent.values), min_size=1, unique=True))
            condition = ((parent.name, tuple(allowed)),)
        genes.append(Gene(f"x{number}", values, condition, ordered))
    return Space("drawn", tuple(genes))


@given(spaces(), st.integers(0, 2**32))
def test_rows_and_architectures_are_one_to_one(space: Space, seed: int) -> None:
    genome = Genome(space)
    architecture = sample(space, random.Random(seed))
    assert genome.decode(genome.encode(architecture)) == architecture
    everything = list(enumerate_all(space))
    assert len({genome.encode(one).tobytes() for one in everything}) == len(everything) == space.size


@given(spaces(), st.integers(0, 2**32))
@settings(deadline=None)
def test_whatever_is_done_to_rows_they_stay_legal(space: Space, seed: int) -> None:
    genome, rng = Genome(space), np.random.default_rng(seed)
    rows = genome.sample(20, rng)
    made = [rows, genome.mutate(rows, rng.integers(1, 4, 20), 0.5, rng), genome.cross(rows, rows[::-1], rng)]
    for row in np.concatenate(made):
        # Checks every value, and that just the active genes have one.
        assert space.architecture(dict(genome.decode(row))) == genome.decode(row)


def test_sampling_is_uniform_over_values() -> None:
    rows = Genome(grid_space(2, 4)).sample(8000, np.random.default_rng(0))
    for column in rows.T:
        assert np.bincount(column, minlength=4) == pytest.approx(np.full(4, 2000), abs=150)


def test_mutation_changes_as_many_genes_as_asked() -> None:
    genome, rng = Genome(grid_space(6, 4)), np.random.default_rng(0)
    rows = genome.sample(300, rng)
    changes = rng.integers(1, 4, 300)
    mutants = genome.mutate(rows, changes, 0.5, rng)
    assert ((mutants != rows).sum(axis=1) == changes).all()


@given(spaces(), st.integers(0, 2**32))
@settings(deadline=None)
def test_neighbours_are_all_rows_with_another_value_of_one_gene(space: Space, seed: int) -> None:
    genome, rng = Genome(space), np.random.default_rng(seed)
    rows = np.unique(genome.sample(3, rng), axis=0)
    found = genome.neighbours(rows, rng)
    assert len({row.tobytes() for row in found}) == len(found)
    changed = set()
    for row in found:
        assert space.architecture(dict(genome.decode(row))) == genome.decode(row)
        parents = [own for own in rows if sum((own != row) & (own != INACTIVE) & (row != INACTIVE)) == 1]
        changed |= {(own.tobytes(), int(at)) for own in parents for at in np.flatnonzero(own != row)}
        assert parents or any((own == row).all() for own in rows)
    expected = {(own.tobytes(), int(at)) for own in rows for at in genome.choices if own[at] != INACTIVE}
    assert expected <= changed


def test_neighbours_of_texts_and_numbers_are_counted() -> None:
    genes = (Gene("n", (1, 2, 4), ordered=True), Gene("t", ("a", "b")), Gene("u", ("a",)))
    genome = Genome(Space("mixed", genes))
    found = genome.neighbours(np.array([[0, 0, 0]], dtype=np.int16), np.random.default_rng(0))
    assert found.tolist() == [[0, 1, 0], [1, 0, 0], [2, 0, 0]]
    assert found.dtype == np.int16
    assert len(genome.neighbours(found[:0], np.random.default_rng(0))) == 0


def test_a_local_mutation_moves_numbers_to_neighbours_and_texts_anywhere() -> None:
    numbers = Genome(grid_space(3, 5))
    rng = np.random.default_rng(0)
    rows = numbers.sample(500, rng)
    steps = numbers.mutate(rows, np.ones(500), 1.0, rng) - rows
    assert set(steps[steps != 0].tolist()) == {-1, 1}
    texts = Genome(Space("texts", (Gene("t", ("a", "b", "c", "d")),)))
    start = np.zeros((500, 1), dtype=np.int16)
    assert set(texts.mutate(start, np.ones(500), 1.0, rng)[:, 0].tolist()) == {1, 2, 3}


def test_a_child_has_every_gene_of_one_of_its_parents() -> None:
    genome, rng = Genome(conditional_space()), np.random.default_rng(0)
    first, second = genome.sample(200, rng), genome.sample(200, rng)
    child = genome.cross(first, second, rng)
    known = (child == first) | (child == second) | ((first == INACTIVE) & (second == INACTIVE))
    assert known[child != INACTIVE].all()


def test_distances_between_features() -> None:
    genes = (Gene("n", (1, 2, 4), ordered=True), Gene("t", ("a", "b")), Gene("u", ("a",)))
    genome = Genome(Space("mixed", genes))
    rows = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [0, 1, 0]], dtype=np.int16)
    features = genome.features(rows)
    # By places along the values, whatever they are; the third gene leaves no choice.
    assert genome.layout.genes.tolist() == [0, 0, 1, 1, 2, 3, 3]
    genes, lines = features[:, :4], features[:, 4:]
    squares = ((genes[:, None] - genes[None]) ** 2).sum(axis=2)
    assert squares[0] == pytest.approx([0, 0.5, 1, 1])
    assert squares[1, 2] == pytest.approx(0.5)
    # On a line the distance itself is that of the places, not its square.
    squares = ((lines[:, None] - lines[None]) ** 2).sum(axis=2)
    assert squares[0] == pytest.approx([0, 0.25, 1, 1])
    assert genome.layout.parts == (2, 0, 2)


def test_totals_are_over_choices_with_the_same_values() -> None:
    genes = (*(Gene(name, ("a", "b")) for name in "tuvw"), Gene("n", (1, 2), ordered=True))
    genome = Genome(Space("alike", genes))
    assert genome.layout.genes.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5, 5]
    rows = np.array([[0, 0, 0, 1, 0], [1, 0, 0, 0, 1], [1, 1, 1, 1, 0]], dtype=np.int16)
    totals = genome.features(rows)[:, genome.layout.genes == 5]
    # Counts of a and of b, of four choices.
    assert totals == pytest.approx(np.array([[3, 1], [3, 1], [0, 4]]) / np.sqrt(2) / 2)


def test_inactive_is_halfway_between_values() -> None:
    genes = (Gene("t", ("a", "b", "c")), Gene("n", (1, 2, 3), (("t", ("a",)),), ordered=True))
    genome = Genome(Space("conditional", genes))
    rows = np.array([[0, 0], [0, 2], [1, INACTIVE]], dtype=np.int16)
    genes = genome.features(rows)[:, genome.layout.genes == 1]
    assert ((genes[:2] - genes[2]) ** 2).sum(axis=1) == pytest.approx([0.25, 0.25])
    line = genome.features(rows)[:, genome.layout.genes == 3]
    assert line.ravel().tolist() == [-0.5, 0.5, 0.0]


def test_ends_of_the_space() -> None:
    space = conditional_space()
    genome = Genome(space)
    assert (genome.encode(smallest(space)) <= 0).all()
    active = genome.encode(largest(space)) != INACTIVE
    assert (genome.encode(largest(space))[active] == genome.counts[active] - 1).all()
