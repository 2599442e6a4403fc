"""Chains scored all at once equal chains walked image by image; what joins a front adds most to it."""

import itertools

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.testing import assert_allclose

from dynnas.latency.cascades import Overhead
from dynnas.pareto.contribution import hypervolume, most_useful, non_dominated, reference_of
from dynnas.search.cascades import (
    PredictionMatrix,
    best_chains,
    pair_chains,
    score_chain,
    triple_chains,
    useful_thresholds,
)


@st.composite
def pools(draw, networks=3, most=12):
    """Few images and coarse confidences, so that there are ties."""
    shape = (networks, draw(st.integers(2, most)))
    grid = st.integers(1, 6).map(lambda n: np.float32(n / 7))
    costs = st.integers(1, 5).map(float)
    return PredictionMatrix(
        confidence=draw(arrays.arrays(np.float32, shape, elements=grid)),
        right=draw(arrays.arrays(bool, shape)),
        cost=draw(arrays.arrays(float, shape, elements=costs)),
        size=tuple((draw(st.sampled_from((8, 16))), 8) for _ in range(networks)),
        overhead=Overhead(0.25, (0.5, 0.125, 0.75), (0.1, 0.2, 0.3)),
    )


def walked(pool, members, thresholds):
    """Accuracy and mean cost, by letting every image walk through the chain."""
    mixed = len({pool.size[member] for member in members}) > 1
    right, spent = 0, 0.0
    for image in range(pool.images):
        for place, member in enumerate(members):
            spent += pool.cost[member, image]
            spent += pool.overhead.later[member] if place else 0
            spent += pool.overhead.resize[member] if mixed else 0
            last = place == len(members) - 1
            if last or pool.confidence[member, image] >= thresholds[place]:
                right += bool(pool.right[member, image])
                spent += 0 if last else pool.overhead.leave
                break
    return right / pool.images, spent / pool.images


@given(pools())
def test_pairs_are_what_walking_gives_at_every_threshold(pool):
    for first, second in itertools.permutations(range(3), 2):
        chains = pair_chains(pool, first, second)
        expected = [walked(pool, (first, second), row) for row in chains.thresholds]
        assert_allclose(chains.points, np.array(expected).reshape(-1, 2), atol=1e-12)
        # Whatever threshold one could think of, between or on confidences, is one of these or of the ends.
        seen = {tuple(np.round(point, 9)) for point in chains.points}
        seen |= {tuple(np.round(walked(pool, (first, second), (end,)), 9)) for end in (0.0, 2.0)}
        some = {tuple(np.round(walked(pool, (first, second), (at / 14,)), 9)) for at in range(15)}
        assert some <= seen


@given(pools())
def test_triples_are_what_walking_gives_at_all_combinations(pool):
    found = triple_chains(pool, 0, 1)
    assert {tuple(row) for row in found.members} <= {(0, 1, 2)}
    expected = [walked(pool, (0, 1, 2), row) for row in found.thresholds]
    assert_allclose(found.points, np.array(expected).reshape(-1, 2), atol=1e-12)
    every = [
        walked(pool, (0, 1, 2), pair)
        for pair in itertools.product(
            useful_thresholds(pool.confidence[0]), useful_thresholds(pool.confidence[1])
        )
    ]
    # With fewer confidences than the grid has places, it is all of them: nothing beats what was kept.
    for accuracy, cost in every:
        assert any(a >= accuracy - 1e-12 and c <= cost + 1e-12 for a, c in found.points)


@given(pools(), st.integers(0, 6), st.integers(0, 6))
def test_a_chain_image_by_image_adds_up_to_the_same(pool, low, high):
    thresholds = (low / 6, high / 6)
    right, cost, stage = score_chain(pool, (2, 0, 1), thresholds)
    assert_allclose((right.mean(), cost.mean()), walked(pool, (2, 0, 1), thresholds), atol=1e-12)
    assert set(stage.tolist()) <= {0, 1, 2}


@settings(max_examples=30)
@given(pools(networks=3))
def test_the_best_chains_are_those_that_no_other_beats(pool):
    pairs, triples = best_chains(pool, 3)
    for chains, size in ((pairs, 2), (triples, 3)):
        every = []
        for members in itertools.permutations(range(3), size):
            steps = [useful_thresholds(pool.confidence[member]) for member in members[:-1]]
            every += [walked(pool, members, chosen) for chosen in itertools.product(*steps)]
        if not every:
            assert len(chains) == 0
            continue
        front = np.round(every, 9)
        kept = {tuple(row) for row in front[non_dominated(front)]}
        assert {tuple(row) for row in np.round(chains.points, 9)} == kept


def test_a_large_pool_agrees_with_walking_too():
    random = np.random.default_rng(0)
    pool = PredictionMatrix(
        confidence=random.beta(4, 1, (5, 700)).astype(np.float32),
        right=random.random((5, 700)) < 0.8,
        cost=random.random((5, 700)) + np.arange(5)[:, None],
        size=((8, 8), (8, 8), (16, 16), (16, 16), (24, 24)),
        overhead=Overhead(0.1, (0.2,) * 5, (0.3,) * 5),
    )
    for chains in best_chains(pool, 3, grid=9):
        assert len(chains) > 5
        expected = [walked(pool, *row) for row in zip(chains.members, chains.thresholds, strict=True)]
        assert_allclose(chains.points, expected, atol=1e-9)


def test_thresholds_lie_between_confidences_and_part_them_all():
    confidence = np.array([0.5, 0.25, 0.5, 1.0], np.float32)
    assert useful_thresholds(confidence).tolist() == [0.75, 0.375]
    near = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], np.float32)
    (threshold,) = useful_thresholds(near)
    assert (near >= threshold).tolist() == [False, True]
    assert len(useful_thresholds(np.array([0.5, 0.5], np.float32))) == 0


POINTS = arrays.arrays(
    float, st.tuples(st.integers(1, 6), st.just(2)), elements=st.integers(0, 9).map(lambda n: n / 9)
)


@given(POINTS, POINTS)
def test_each_that_joins_adds_more_than_any_other_would(known, offered):
    reference = reference_of(np.concatenate([known, offered])) if len(known) else (0.0, 1.0)

    def volume(points):
        return moocore.hypervolume(points * (-1, 1), ref=(-reference[0], reference[1]))

    chosen = most_useful(known, offered, reference, keep=3)
    front = known
    for row in chosen:
        best = max(volume(np.concatenate([front, offered[[other]]])) for other in range(len(offered)))
        front = np.concatenate([front, offered[[row]]])
        assert volume(front) == pytest.approx(best, abs=1e-12)
        assert hypervolume(front, reference) == pytest.approx(volume(front), abs=1e-12)
    if len(chosen) < 3:
        rest = max(volume(np.concatenate([front, offered[[other]]])) for other in range(len(offered)))
        assert rest == pytest.approx(volume(front), abs=1e-9)
