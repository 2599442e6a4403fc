"""What a search is compared with, also on the test split."""

import pytest
from scipy import stats

from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.objectives import objectives_of
from dynnas.space.architecture import Architecture
from dynnas.study.controls import UNSELECTED, Comparison, Controls

OBJECTIVES = objectives_of(("accuracy", "latency_ms"))


def network(name: int, accuracy: float, latency: float, test: float | None = None) -> ScoredArchitecture:
    tested = {} if test is None else {"test_accuracy": test}
    metrics = {"accuracy": accuracy, "latency_ms": latency, **tested}
    return ScoredArchitecture(Architecture((("width", name),)), metrics)


SEARCHED = [network(1, 0.7, 1.0), network(2, 0.8, 2.0), network(3, 0.9, 3.0), network(4, 0.6, 4.0)]
FINISHED = Front.of(
    [network(1, 0.7, 1.0, 0.66), network(2, 0.8, 2.0, 0.79), network(3, 0.9, 3.0, 0.82)], OBJECTIVES
)
STATIC = (network(5, 0.65, 1.0, 0.6), network(6, 0.75, 3.0, 0.74), network(7, 0.7, 4.0))
RANDOM = (
    *(network(10 + at, 0.5, 5.0, 0.48) for at in range(UNSELECTED)),
    network(40, 0.8, 4.0, 0.5),  # chosen for its score
)


def test_fronts_are_compared_by_what_their_members_reach_on_the_test_split() -> None:
    found = Comparison.of(SEARCHED, Controls(static=STATIC), OBJECTIVES, FINISHED)
    # A tenth beyond fronts from 0.65 to 0.9 and from 1 to 3 ms, on the test split from 0.6 to 0.82.
    accuracy, latency = 0.65 - 0.025, 3.2
    assert found.reference == pytest.approx({"accuracy": accuracy, "latency_ms": latency})
    assert found.hypervolume["static"] == pytest.approx(
        (0.65 - accuracy) * (latency - 1) + (0.75 - 0.65) * (latency - 3)
    )
    accuracy = 0.6 - 0.022
    assert found.test == pytest.approx(
        {
            "search": (0.66 - accuracy) * (latency - 1)
            + (0.79 - 0.66) * (latency - 2)
            + (0.82 - 0.79) * (latency - 3),
            "static": (0.6 - accuracy) * (latency - 1) + (0.74 - 0.6) * (latency - 3),
        }
    )


def test_a_network_that_took_long_in_a_busy_moment_moves_no_hypervolume() -> None:
    slow = (*STATIC, network(8, 0.72, 900.0))
    calm, busy = (Comparison.of(SEARCHED, Controls(static=each), OBJECTIVES) for each in (STATIC, slow))
    assert busy.hypervolume == calm.hypervolume


def test_selection_makes_scores_too_high_and_random_networks_say_what_the_splits_make() -> None:
    found = Comparison.of(SEARCHED, Controls(random=RANDOM), OBJECTIVES, FINISHED)
    assert found.optimism == pytest.approx((0.04 + 0.01 + 0.08) / 3)
    assert found.unselected_optimism == pytest.approx(0.02)


def test_the_order_is_spearmans() -> None:
    scrambled = Front(
        (*FINISHED[:2], network(3, 0.9, 3.0, 0.7)),
        OBJECTIVES,
    )
    found = Comparison.of(SEARCHED, Controls(), OBJECTIVES, scrambled)
    expected = stats.spearmanr([0.7, 0.8, 0.9], [0.66, 0.79, 0.7]).statistic
    assert found.order == pytest.approx(expected)


def test_what_is_not_tested_is_not_compared() -> None:
    found = Comparison.of(SEARCHED, Controls(random=(network(9, 0.5, 2.0),)), OBJECTIVES)
    assert (found.test, found.optimism, found.unselected_optimism, found.order) == ({}, None, None, None)
