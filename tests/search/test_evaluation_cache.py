"""Nothing is evaluated twice, even where an evaluation ended early."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.tables import Table, grid_space

from dynnas.documents import provenance_digest
from dynnas.pareto.objectives import Goal
from dynnas.search.cache import Cache, CachedEvaluator
from dynnas.search.evaluator import assess
from dynnas.space.moves import smallest


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[Cache]:
    cache = Cache(tmp_path / "cache.db")
    yield cache
    cache.close()


def test_second_evaluation_asks_for_nothing(cache: Cache) -> None:
    goal = Goal.of(("accuracy", "latency_ms"))
    architecture = smallest(grid_space())
    table = Table()
    first = assess(CachedEvaluator(table, cache, "here"), architecture, goal)
    again = CachedEvaluator(table, cache, "here")
    assert assess(again, architecture, goal) == first
    assert (again.hits, again.misses) == (2, 0)
    assert (table.cheap, table.costly) == (1, 1)


def test_other_provenance_is_another_evaluation(cache: Cache) -> None:
    goal = Goal.of(("accuracy", "latency_ms"))
    architecture = smallest(grid_space())
    table = Table()
    for weights in ("a", "b"):
        assess(CachedEvaluator(table, cache, provenance_digest({"weights": weights})), architecture, goal)
    assert table.costly == 2


def test_rejected_candidate_is_completed_later(cache: Cache) -> None:
    architecture = smallest(grid_space())
    table = Table()
    evaluator = CachedEvaluator(table, cache, "here")
    tight = assess(evaluator, architecture, Goal.of(("accuracy",), {"latency_ms": 0.5}))
    assert tight.rejection == "latency_ms 1 is above 0.5"
    assert table.costly == 0
    loose = assess(evaluator, architecture, Goal.of(("accuracy",), {"latency_ms": 2.0}))
    assert loose.rejection is None
    assert (evaluator.hits, evaluator.misses, table.costly) == (1, 2, 1)
