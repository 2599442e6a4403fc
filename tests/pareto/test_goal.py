"""Objectives and limits by name."""

import pytest

from dynnas.errors import StudyError
from dynnas.pareto.objectives import Goal


def test_directions_come_from_the_table_or_the_caller() -> None:
    assert [o.direction for o in Goal.of(("accuracy", "latency_ms")).objectives] == ["maximize", "minimize"]
    assert Goal.of({"energy": "minimize"}).objectives[0].sign == 1.0


def test_violations_are_relative_and_named() -> None:
    goal = Goal.of(("accuracy",), {"latency_ms": 4.0, "macs": 100})
    assert goal.metrics == ("accuracy", "latency_ms", "macs")
    assert goal.violations({"latency_ms": 5.0}) == {"latency_ms": 0.25}
    assert goal.rejection({"latency_ms": 4.0}) is None
    assert (
        goal.rejection({"latency_ms": 5.0, "macs": 300}) == "latency_ms 5 is above 4, macs 300 is above 100"
    )


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(
        StudyError, match=r"'latency' is not a known metric .*\(did you mean 'latency_ms'\?\)"
    ):
        Goal.of(("latency",))
    with pytest.raises(StudyError, match="'energy' is to be 'down'"):
        Goal.of({"energy": "down"})
    with pytest.raises(StudyError, match=r"objectives: found \(\)"):
        Goal.of(())
    with pytest.raises(StudyError, match="'accuracy' is maximised"):
        Goal.of(("accuracy",), {"accuracy": 0.9})
    with pytest.raises(StudyError, match="limit of 'macs' is nan"):
        Goal.of(("accuracy",), {"macs": float("nan")})
