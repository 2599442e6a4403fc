"""What `guided` proposes where the front stays what it is."""

import numpy as np
from support.tables import grid_space

from dynnas.samplers.context import Ground
from dynnas.samplers.genome import Genome, Rows
from dynnas.samplers.guided import Guided
from dynnas.samplers.history import History

SPACE = grid_space(5, 4)
GENOME = Genome(SPACE)


def apart(row: np.ndarray, others: Rows) -> int:
    """In how many genes the nearest of `others` differs."""
    return int((others != row).sum(1).min())


def test_where_all_neighbours_of_the_front_were_tried_those_of_the_next_best_are() -> None:
    """A front of one network would otherwise be left by two genes at once only, or at random."""
    rng = np.random.default_rng(0)
    best = np.full((1, 5), 2, dtype=np.int16)
    around = GENOME.neighbours(best, rng)
    far = 2 - 2 * best
    rows = np.concatenate([best, around, far])
    second = around[4]
    worse = np.array([0.0, *[2.0] * len(around), 3.0])
    worse[5] = 1.0
    losses = np.column_stack([worse, worse])
    none = np.zeros((0, 5), dtype=np.int16)
    taken = frozenset(row.tobytes() for row in rows)
    history = History(rows, losses, np.array([False, False]), {}, (None,) * len(rows), none, taken)
    assert history.stalled == len(rows) - 1
    assert len(rows) % 2 == 1  # every other proposal is one that no model has chosen
    guided = Guided(Ground(SPACE, None, None, 0, None))
    first = [guided.rows(history, np.random.default_rng(seed))[0] for seed in range(40)]
    assert all(row.tobytes() not in taken for row in first)
    beside = [apart(row, second[None]) == 1 for row in first]
    assert np.mean(beside) > 0.25  # half of three of four; by chance one of a hundred
