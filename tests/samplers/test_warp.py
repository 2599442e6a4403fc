"""Warps: normal scores, their inverse, and what they give of a normal belief."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from dynnas.samplers.model.warp import NODES, WEIGHTS, Warp, mean_ranks


@given(
    st.lists(st.floats(-1e3, 1e3).map(lambda value: round(value, 2)), min_size=1, max_size=40),
    st.sampled_from(["rank", "linear"]),
)
def test_increases_and_goes_back(losses: list[float], kind: str) -> None:
    values = np.array(losses)
    warp = Warp.of(kind, values)
    assert (np.diff(warp.losses) > 0).all()
    assert (np.diff(warp.warped) > 0).all()
    assert warp.inverse(warp(values)) == pytest.approx(values, abs=1e-6)
    assert warp(values).mean() == pytest.approx(0.0, abs=1e-6)


def test_ranks_become_normal_scores() -> None:
    losses = np.array([5.0, 1.0, 1000.0, 2.0, 3.0])
    scores = stats.norm.ppf(np.array([4, 1, 5, 2, 3]) / 6)
    assert Warp.of("rank", losses)(losses) == pytest.approx(scores / scores.std())


def test_equal_values_share_a_rank_as_in_scipy() -> None:
    values = np.array([3.0, 1.0, 3.0, -2.0, 3.0, 1.0])
    assert mean_ranks(values).tolist() == stats.rankdata(values).tolist()


def test_beyond_the_best_it_goes_on_as_the_best_did() -> None:
    losses = np.arange(50.0)
    warp = Warp.of("rank", losses)
    step = (warp.warped[6] - warp.warped[1]) / 5
    assert warp(np.array([-2.0])) == pytest.approx(warp.warped[1] - 2 * step)


def test_of_a_linear_warp_the_quadrature_gives_mean_and_deviation() -> None:
    warp = Warp.of("linear", np.array([2.0, 4.0, 9.0]))
    found = warp.quantiles(np.array([0.0, 0.5]), np.array([1.0, 0.2]))
    mean = found @ WEIGHTS
    assert mean == pytest.approx(5.0 + np.array([0.0, 0.5]) * np.std([2, 4, 9]))
    assert np.sqrt((found**2) @ WEIGHTS - mean**2) == pytest.approx(np.array([1.0, 0.2]) * np.std([2, 4, 9]))
    assert found[:, len(NODES) // 2] == pytest.approx(mean)


def test_the_variance_of_an_error_is_that_of_the_scaled_losses() -> None:
    losses = np.random.default_rng(0).normal(5.0, 2.0, 50)
    assert Warp.of("linear", losses).variance(losses, 0.3) == pytest.approx((0.3 / losses.std()) ** 2)
    assert Warp.of("rank", losses).variance(losses, 0.0) == 0.0
