"""Bootstrap intervals against scipy's, and against how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats
from support.combinations import combinations

from dynnas.latency.interval import Estimate, estimate, low_quantile


def test_the_value_is_the_mean_over_images_of_the_statistic():
    passes = np.array([[1.0, 10.0], [2.0, 30.0], [9.0, 20.0]])
    assert estimate(passes, np.median).value == pytest.approx((2.0 + 20.0) / 2)


def test_the_interval_of_a_median_is_about_scipys():
    times = np.random.default_rng(1).lognormal(0, 0.1, (2000, 1))
    ours = estimate(times, np.median)
    theirs = stats.bootstrap((times[:, 0],), np.median, rng=2).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=1.5e-3)
    assert ours.high == pytest.approx(theirs.high, abs=1.5e-3)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("law", "memory"),
    combinations([(np.median, 0.0), (low_quantile, stats.norm.ppf(0.1))], [0.0, 0.7], every=2),
)
def test_the_interval_holds_the_truth_nineteen_times_of_twenty(law, memory):
    statistic, truth = law
    """Also where what disturbs one round disturbs the next: noise with a memory, of variance 1."""
    rng = np.random.default_rng(3)
    held = 0
    for seed in range(200):
        noise = rng.normal(size=900)
        for at in range(1, len(noise)):
            noise[at] = memory * noise[at - 1] + np.sqrt(1 - memory**2) * noise[at]
        found = estimate(noise[:, None] + 10, statistic, seed)
        held += found.low <= truth + 10 <= found.high
    assert 0.88 <= held / 200 <= 0.99


def test_an_estimate_in_another_unit():
    assert Estimate(2.0, 1.0, 3.0).scaled(10.0) == Estimate(20.0, 10.0, 30.0)
    assert Estimate(2.0, 1.5, 2.5).half_width == pytest.approx(0.25)
