"""What a front says of the noise of its scores."""

import pytest

from dynnas.pareto.front import Front, ScoredArchitecture
from dynnas.pareto.noise import GAIN, GAIN_HIGH, GAIN_LOW, beats_cheaper, half_width, is_tested
from dynnas.pareto.noise import tested as on_test
from dynnas.pareto.objectives import objectives_of
from dynnas.space.architecture import Architecture


def member(width: int, accuracy: float, low: float | None) -> ScoredArchitecture:
    """A network whose gain over the cheaper one has an interval that begins at `low`."""
    gain = {} if low is None else {GAIN: low + 0.01, GAIN_LOW: low, GAIN_HIGH: low + 0.02}
    noise = {"accuracy_low": accuracy - 0.02, "accuracy_high": accuracy + 0.01}
    metrics = {"accuracy": accuracy, "latency_ms": width / 10, **noise, **gain}
    return ScoredArchitecture(Architecture((("width", width),)), metrics, trial=width)


FRONT = Front.of(
    [member(1, 0.5, None), member(2, 0.6, 0.05), member(3, 0.61, -0.001), member(4, 0.62, 0.0)],
    objectives_of(("accuracy", "latency_ms")),
)


def test_half_of_an_interval_and_nothing_where_there_is_none() -> None:
    assert half_width(FRONT[0].metrics, "accuracy") == pytest.approx(0.015)
    assert half_width(FRONT[0].metrics, "latency_ms") is None


def test_a_member_beats_the_cheaper_one_only_beyond_the_noise() -> None:
    assert [beats_cheaper(each.metrics) for each in FRONT] == [None, True, False, False]


def test_neighbours_that_cannot_be_told_apart() -> None:
    assert [[other.trial for other in FRONT.alike(each)] for each in FRONT] == [[], [3], [2, 4], [3]]


def test_metrics_of_the_test_split_are_known_by_their_names() -> None:
    assert is_tested(on_test("accuracy"))
    assert is_tested(GAIN_LOW)
    assert not is_tested("accuracy")


def test_the_text_of_a_front_shows_intervals_and_marks() -> None:
    first, second, third, fourth = str(FRONT).splitlines()[2:]
    assert first.split() == ["0", "0.5", "±", "0.015", "0.1", "width=1"]
    assert second.split()[:2] == ["1", "0.6"]
    assert (third.split()[:3], fourth.split()[:3]) == (["2", "≈", "0.61"], ["3", "≈", "0.62"])


def test_intervals_and_gains_survive_the_document() -> None:
    assert Front.from_json(FRONT.to_json()) == FRONT
