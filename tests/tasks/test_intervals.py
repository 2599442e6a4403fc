"""Intervals of scores beside scipy's, and what tasks say of their own."""

import numpy as np
import pytest
import torch
from scipy import stats

from dynnas.tasks import Classification, MultiLabel, Regression, Segmentation
from dynnas.tasks.intervals import bootstrap, mean_interval, wilson


@pytest.mark.parametrize(("right", "count"), [(45, 50), (0, 20), (20, 20), (1741, 2000)])
def test_the_interval_of_a_share_is_wilsons(right: int, count: int) -> None:
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert wilson(right / count, count) == pytest.approx((expected.low, expected.high), abs=1e-4)


def test_the_bootstrap_is_scipys_percentile_interval() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)).double()
    found = bootstrap(lambda outputs, targets: {"mean": outputs.mean().item()}, values, values)["mean"]
    expected = stats.bootstrap(
        (values.numpy(),), np.mean, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert found == pytest.approx((expected.low, expected.high), abs=0.02)


def test_the_interval_of_a_mean_is_the_normal_one() -> None:
    values = torch.randn(1000, generator=torch.Generator().manual_seed(1)).double()
    mean, low, high = mean_interval(values)
    expected = stats.norm.interval(0.95, loc=values.mean(), scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected, rel=1e-3)
    assert low < mean < high


def answers_of(right: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logits whose class is the target where `right`, else the one after it."""
    return torch.nn.functional.one_hot(torch.where(right, targets, (targets + 1) % 5), 5).double()


def test_a_classifier_has_wilsons_interval_and_gains_image_by_image() -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.randint(0, 5, (500,), generator=rng)
    first, second = (torch.rand(500, generator=rng) < share for share in (0.8, 0.7))
    task = Classification(5)
    outputs, others = answers_of(first, targets), answers_of(second, targets)
    share = first.double().mean().item()
    assert task.intervals(outputs, targets) == {"accuracy": wilson(share, 500)}
    gained = task.gain(outputs, others, targets)
    assert gained is not None
    differences = first.double() - second.double()
    low, high = stats.norm.interval(0.95, loc=differences.mean(), scale=stats.sem(differences))
    assert gained == pytest.approx((differences.mean().item(), low, high), abs=1e-4)


def test_answers_that_are_the_same_gain_nothing() -> None:
    targets = torch.arange(20) % 5
    outputs = answers_of(targets > 0, targets)
    assert Classification(5).gain(outputs, outputs, targets) == (0.0, 0.0, 0.0)


def test_other_tasks_bootstrap_their_scores_or_have_no_interval() -> None:
    rng = torch.Generator().manual_seed(0)
    targets = torch.randn(300, 2, generator=rng).double()
    outputs = targets + 0.5 * torch.randn(300, 2, generator=rng)
    task = Regression(2).of_data(targets)
    rows = (outputs - targets.mean(0)) / targets.std(0, correction=0)
    found, score = task.intervals(rows, targets), task.score(rows, targets)
    assert list(found) == list(score) == ["rmse", "mae", "r2"]
    assert all(low < score[name] < high for name, (low, high) in found.items())
    assert task.gain(rows, rows, targets) is None  # the quality of one answer is not known
    labels = (torch.rand(200, 3, generator=rng) < 0.4).long()
    noisy = labels.double() - 0.5 + 0.6 * torch.randn(200, 3, generator=rng).double()
    low, high = MultiLabel(3).intervals(noisy, labels)["label_accuracy"]
    assert low < MultiLabel(3).score(noisy, labels)["label_accuracy"] < high
    maps = torch.randn(4, 3, 8, 8, generator=rng)
    assert Segmentation(3).intervals(maps, torch.zeros(4, 8, 8, dtype=torch.long)) == {}
