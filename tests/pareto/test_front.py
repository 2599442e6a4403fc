"""The Pareto front against brute force."""

import itertools
import json
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynnas.errors import StudyError
from dynnas.pareto.front import Front, ScoredArchitecture, reference_point
from dynnas.pareto.objectives import objectives_of
from dynnas.space.architecture import Architecture

OBJECTIVES = objectives_of(("accuracy", "latency_ms"))


def candidate(index: int, **metrics: float) -> ScoredArchitecture:
    return ScoredArchitecture(Architecture((("x", index),)), metrics, index)


def pool(points: Sequence[tuple[float, float]]) -> list[ScoredArchitecture]:
    return [candidate(index, accuracy=a, latency_ms=b) for index, (a, b) in enumerate(points)]


points = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), min_size=1, max_size=25)


@given(points)
def test_front_is_what_nothing_beats(drawn: list[tuple[int, int]]) -> None:
    front = Front.of(pool(drawn), OBJECTIVES)
    unbeaten = {
        (a, b) for a, b in drawn if not any((c >= a and d <= b) and (c, d) != (a, b) for c, d in drawn)
    }
    found = [(member.metrics["accuracy"], member.metrics["latency_ms"]) for member in front]
    assert found == sorted(unbeaten, key=lambda point: point[1])


@given(points)
def test_hypervolume_counts_the_dominated_cells(drawn: list[tuple[int, int]]) -> None:
    front = Front.of(pool(drawn), OBJECTIVES)
    # Unit cells between the reference (accuracy 0, latency 12) and the front.
    cells = sum(
        any(a >= x + 1 and b <= y for a, b in drawn) for x, y in itertools.product(range(12), range(12))
    )
    assert front.hypervolume({"accuracy": 0, "latency_ms": 12}) == pytest.approx(cells)


def test_picks() -> None:
    front = Front.of(pool([(10, 1), (60, 2), (70, 9), (5, 5)]), OBJECTIVES)
    assert [member.trial for member in front] == [0, 1, 2]
    assert front.pick("fastest").trial == 0
    assert front.pick("most-accurate").trial == 2
    assert front.pick("knee").trial == 1
    assert front.pick(front[2].key[:6]).trial == 2
    with pytest.raises(StudyError, match="no members have the key 'fast'"):
        front.pick("fast")
    with pytest.raises(StudyError, match="the front is empty"):
        Front.of([], OBJECTIVES).pick("knee")


def test_a_printed_front_is_a_table() -> None:
    front = Front.of(pool([(10, 1.5), (60, 22)]), OBJECTIVES)
    assert str(front).splitlines() == [
        "2 networks, cheapest first",
        "   accuracy  latency_ms  architecture",
        "0  10        1.5         x=0",
        "1  60        22          x=1",
    ]


def test_a_notebook_shows_the_same_table() -> None:
    members = [ScoredArchitecture(Architecture((("op", "<b>"),)), {"accuracy": 10, "latency_ms": 1.5})]
    page = ElementTree.fromstring(Front.of(members, OBJECTIVES)._repr_html_())
    assert [cell.text for cell in page.iter("th")] == [None, "accuracy", "latency_ms", "architecture"]
    assert [cell.text for cell in page.iter("td")] == ["0", "10", "1.5", "op=<b>"]
    assert page.findtext("caption") == "1 network, cheapest first"


def test_pick_by_a_direction_that_no_objective_has() -> None:
    front = Front.of([candidate(0, macs=3)], objectives_of(("macs",)))
    with pytest.raises(StudyError, match=r"no most-accurate member, for none of its objectives \(macs\)"):
        front.pick("most-accurate")


def test_json_round_trip_and_groups() -> None:
    metrics = {
        "accuracy": 0.9,
        "test_accuracy": 0.8,
        "latency_ms": 1.5,
        "p95_ms": 2.0,
        "macs": 7,
        "exit_share": 0.5,
    }
    front = Front.of([candidate(3, **metrics)], OBJECTIVES)
    assert Front.from_json(front.to_json()) == front
    member = json.loads(front.to_json())["members"][0]
    assert member["key"] == front[0].key
    assert member["trial"] == 3
    assert member["accuracy"] == {"search": 0.9, "test": 0.8}
    assert member["latency_ms"] == {"ranked": 1.5, "p95": 2.0}
    assert member["macs"] == 7
    assert member["metrics"] == {"exit_share": 0.5}
    with pytest.raises(StudyError, match="found format 99"):
        Front.from_json('{"dynnas_front": 99}')
    with pytest.raises(StudyError, match="front: damaged, or not by dynnas"):
        Front.from_json("[]")


def test_the_reference_lies_beyond_the_ends_of_the_front_and_no_outlier_moves_it() -> None:
    front = [(1, 2), (3, 5)]
    expected = pytest.approx({"accuracy": 1 - 0.2, "latency_ms": 5 + 0.3})
    assert reference_point([Front.of(pool(front), OBJECTIVES)]) == expected
    fronts = [Front.of(pool(each), OBJECTIVES) for each in ([front[0], (0.1, 500)], [front[1]], [])]
    assert reference_point(fronts) == expected
    with pytest.raises(ValueError, match="needs a front that has members"):
        reference_point([])


def test_the_reference_of_one_member_is_a_tenth_worse() -> None:
    found = reference_point([Front.of(pool([(2, 5)]), OBJECTIVES)])
    assert found == pytest.approx({"accuracy": 1.8, "latency_ms": 5.5})
