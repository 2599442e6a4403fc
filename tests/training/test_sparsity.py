"""Easy images pay for what they use."""

import math

import pytest
import torch
from torch.nn import functional as F

from dynnas.nn.gates.costs import GateCost
from dynnas.nn.gates.gate import Decision
from dynnas.training.algorithms.gates.sparsity import easiness, use_of_easy
from dynnas.training.distributed.ranks import Batch, Ranks


def test_how_easy_an_image_is_by_hand():
    """Two classes: cross entropies log(1 + e^-4), log 2 and log(1 + e^4)."""
    logits, labels = torch.tensor([[4.0, 0.0], [0.0, 0.0], [0.0, 4.0]]), torch.zeros(3, dtype=torch.int64)
    losses = [math.log(1 + math.exp(-4)), math.log(2), math.log(1 + math.exp(4))]
    half = sum(losses) / 3 / 2
    expected = [(half - losses[0]) / half, (half - losses[1]) / half, 0]
    assert expected[1] > 0
    assert easiness(
        F.cross_entropy(logits, labels, reduction="none"), Batch(Ranks(), 3)
    ).tolist() == pytest.approx(expected, rel=1e-5)


def test_an_easy_image_pays_for_its_part_of_the_multiply_adds():
    costs = [
        GateCost("stage1.1", ("skip", "run"), 0.5, (10, 110), 100),
        GateCost("stage1.2", ("skip", "run"), 0.5, (0, 300), 300),
    ]
    rows = torch.tensor([[0.0, 1], [0, 1], [1, 0]], requires_grad=True)
    found = use_of_easy(costs, [Decision(rows, rows)] * 2, torch.tensor([0.5, 0.0, 1.0]))
    assert found.tolist() == pytest.approx([0.5 * 410 / 400, 0, 10 / 400])
    found.mean().backward()
    expected = torch.tensor([[0.5 * 10, 0.5 * 410], [0, 0], [10, 410]]) / 400 / 3
    torch.testing.assert_close(rows.grad, expected)
