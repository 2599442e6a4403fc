"""Expected hypervolume improvement against Monte Carlo, by moocore's hypervolume."""

import moocore
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from dynnas.samplers.model.improvement import boxes, expected_improvement, shortfall, thinned
from dynnas.samplers.model.warp import NODES


def drawn_front(seed: int, objectives: int) -> np.ndarray:
    points = np.random.default_rng(seed).random((12, objectives))
    return points[moocore.is_nondominated(points)]


def gain(front: np.ndarray, point: np.ndarray, reference: np.ndarray) -> float:
    return moocore.hypervolume(np.vstack([front, point]), ref=reference) - moocore.hypervolume(
        front, ref=reference
    )


@given(st.integers(0, 1000), st.integers(1, 4))
@settings(deadline=None)
def test_of_a_known_point_it_is_the_improvement(seed: int, objectives: int) -> None:
    front, reference = drawn_front(seed, objectives), np.full(objectives, 0.9)
    low, high = boxes(front, reference)
    points = np.random.default_rng(seed + 1).uniform(-0.2, 1.1, (10, objectives))
    found = expected_improvement(list(points.T[:, :, None]), low, high)
    assert found == pytest.approx([gain(front, point, reference) for point in points], abs=1e-12)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_of_an_uncertain_point_it_is_the_mean_improvement(objectives: int) -> None:
    front, reference = drawn_front(3, objectives), np.ones(objectives)
    low, high = boxes(front, reference)
    rng = np.random.default_rng(0)
    mean = rng.uniform(0, 0.6, (4, objectives))
    deviation = rng.uniform(0.05, 0.4, (4, objectives))
    deviation[1, -1] = 0.0  # one objective is known
    losses = [mean[:, [at]] + deviation[:, [at]] * NODES for at in range(objectives)]
    found = expected_improvement(losses, low, high)
    for at in range(4):
        draws = rng.normal(mean[at], deviation[at], (20_000, objectives))
        gains = np.array([gain(front, draw, reference) for draw in draws])
        assert found[at] == pytest.approx(gains.mean(), rel=0.03, abs=4 * gains.std() / np.sqrt(len(gains)))


def test_without_a_front_everything_below_the_reference_counts() -> None:
    low, high = boxes(np.zeros((0, 2)), np.array([1.0, 2.0]))
    assert expected_improvement([np.array([[0.5]]), np.array([[0.5]])], low, high) == pytest.approx([0.75])


def test_shortfall_against_numerical_integration() -> None:
    for edge, mean, deviation in ((0.3, 0.0, 1.0), (-2.0, 0.5, 0.7), (4.0, 1.0, 0.1)):
        expected = stats.norm(mean, deviation).expect(
            lambda y, edge=edge: max(edge - y, 0.0), lb=-20, ub=edge
        )
        found = shortfall(np.array([edge]), mean + deviation * NODES[None])
        assert found == pytest.approx(np.array([[expected]]), abs=0.015 * deviation)
    assert shortfall(np.array([-np.inf]), NODES[None]).tolist() == [[0.0]]


def test_thinned_fronts_keep_their_ends() -> None:
    front = np.column_stack([np.linspace(0, 1, 500), np.linspace(1, 0, 500) ** 2, np.zeros(500)])
    few = thinned(front, 3)
    assert 2 <= len(few) <= 60
    assert few[0].tolist() == front[0].tolist()
    assert few[-1].tolist() == front[-1].tolist()
