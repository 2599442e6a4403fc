"""What the acquisition function counts: no early result bounds it, and what is known is exact."""

import numpy as np
import pytest
from support.tables import grid_space

from dynnas.pareto.objectives import Goal
from dynnas.samplers.genome import Genome
from dynnas.samplers.history import History
from dynnas.samplers.model import acquisition
from dynnas.samplers.model.acquisition import Fits, Outlook
from dynnas.samplers.model.cheap_metrics import Known
from dynnas.space.architecture import Architecture

GENOME = Genome(grid_space(2, 6))


def cost_of(row: np.ndarray) -> float:
    return float(row[0] + 0.1 * row[1])


def history_of(rows: np.ndarray) -> History:
    """Accuracy grows with the first gene, and so does the cost; the second one only costs."""
    losses = np.array([[-np.sqrt(row[0] + 1.0), cost_of(row)] for row in rows])
    taken = frozenset(row.tobytes() for row in rows)
    none = np.zeros((0, 2), dtype=np.int16)
    return History(rows, losses, np.array([True, False]), {}, (None,) * len(rows), none, taken)


@pytest.fixture
def cheap_half() -> np.ndarray:
    """Every network whose first gene is below 3: of the dear half nothing was seen."""
    return np.array([[first, second] for second in range(6) for first in range(3)], dtype=np.int16)


def test_a_better_network_counts_however_dear_it_is(cheap_half: np.ndarray) -> None:
    """Nearly as much as one that fills a gap of the front, though nothing as dear was seen."""
    seen = cheap_half[cheap_half[:, 0] != 1]
    outlook = Outlook(GENOME, history_of(seen), None, Fits(), np.random.default_rng(0))
    dear, gap = outlook.worth(np.array([[5, 0], [1, 0]], dtype=np.int16))
    assert dear > 0.3 * gap > 0


def test_a_known_cost_is_exact_where_it_decides(
    cheap_half: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acquisition, "_UNINFORMED", len(cheap_half))
    goal = Goal.of({"accuracy": "maximize", "cost": "minimize"})

    def cheap(architecture: Architecture) -> dict[str, float]:
        return {"cost": cost_of(GENOME.encode(architecture))}

    known = Known(GENOME, goal, cheap, seed=0)
    outlook = Outlook(GENOME, history_of(cheap_half), known, Fits(), np.random.default_rng(0), goal)
    rows = np.array([[4, 0], [3, 5]], dtype=np.int16)
    unit = outlook._units[1]
    guessed, exact = (unit * outlook._objectives(rows, exact)[1] for exact in (False, True))
    assert exact.tolist() == [[4.0], [3.5]]
    assert guessed[:, guessed.shape[1] // 2] == pytest.approx([4.0, 3.5], abs=0.2)


def test_results_since_the_front_moved_are_counted(cheap_half: np.ndarray) -> None:
    history = history_of(cheap_half)
    assert history.stalled == len(cheap_half) - 3  # the first three are the front
    assert history_of(cheap_half[:3]).stalled == 0


def test_a_lucky_result_counts_less_where_the_error_is_known() -> None:
    rows = np.array([[first, second] for second in range(6) for first in range(6)], dtype=np.int16)
    rng = np.random.default_rng(0)
    losses = np.array([[-float(row[0]) + rng.normal(0, 0.3), cost_of(row)] for row in rows])
    lucky = 14  # of the middle of the range, and by luck better than all
    losses[lucky, 0] -= 4.0
    none = np.zeros((0, 2), dtype=np.int16)
    taken = frozenset(row.tobytes() for row in rows)
    history = History(rows, losses, np.array([True, False]), {}, (None,) * len(rows), none, taken)
    goal = Goal.of({"accuracy": "maximize", "cost": "minimize"})

    def seen(errors: dict[str, float]) -> np.ndarray:
        outlook = Outlook(GENOME, history, None, Fits(), np.random.default_rng(0), goal, None, errors)
        learned = outlook._beliefs[0]
        found = np.empty(len(rows))
        found[learned.chosen] = outlook._units[0] * learned.corrected()
        return found

    assert seen({}) == pytest.approx(losses[:, 0])
    corrected = seen({"accuracy": 1.0})
    assert losses[lucky, 0] < losses[:, 0][np.arange(36) != lucky].min()
    assert corrected[lucky] > corrected[rows[:, 0] == 5].mean()
    ordinary = np.arange(36) != lucky
    assert np.abs(corrected - losses[:, 0])[ordinary].mean() < 0.5


def test_of_losses_that_are_all_minimised_the_first_may_be_an_error() -> None:
    """An error is of no use beyond the usual, however cheap the network is; of two costs all is."""

    def bounded(first: list[float]) -> bool:
        rows = np.array([[place, 0] for place in range(6)], dtype=np.int16)
        losses = np.column_stack([first, np.arange(6.0)])
        none = np.zeros((0, 2), dtype=np.int16)
        taken = frozenset(row.tobytes() for row in rows)
        history = History(rows, losses, np.array([False, False]), {}, (None,) * 6, none, taken)
        outlook = Outlook(GENOME, history, None, Fits(), np.random.default_rng(0))
        reference = outlook._reference * outlook._units
        assert reference[1] > 5.0
        return bool(reference[0] < max(first))

    assert bounded([0.9, 0.1, 0.09, 0.08, 0.07, 0.06])
    assert not bounded([1.0, 0.8, 0.6, 0.4, 0.2, 0.0])


def test_a_known_cost_tells_of_the_accuracy_where_that_follows_it() -> None:
    goal = Goal.of({"accuracy": "maximize", "cost": "minimize"})
    genome = Genome(grid_space(5, 4))
    rng = np.random.default_rng(0)
    prices = rng.uniform(0.5, 2.0, (5, 4))

    def cheap(architecture: Architecture) -> dict[str, float]:
        return {"cost": float(np.prod(prices[np.arange(5), list(architecture.values())]))}

    rows = genome.sample(14, rng)
    costs = np.array([cheap(genome.decode(row))["cost"] for row in rows])
    losses = np.column_stack([-np.sqrt(costs), costs])
    none = np.zeros((0, 5), dtype=np.int16)
    taken = frozenset(row.tobytes() for row in rows)
    history = History(rows, losses, np.array([True, False]), {}, (None,) * 14, none, taken)
    known = Known(genome, goal, cheap, seed=0)
    new = genome.sample(200, rng)
    truth = -np.sqrt([cheap(genome.decode(row))["cost"] for row in new])

    def agreement(known: Known | None) -> float:
        accuracy, cost = Outlook(genome, history, known, Fits(), rng, goal)._beliefs
        assert accuracy.forecast is (known.hint if known else None)
        assert cost.forecast is None
        return float(np.corrcoef(accuracy.middle(genome.features(new)), truth)[0, 1])

    assert agreement(None) < 0.95 < agreement(known)
