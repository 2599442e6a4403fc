"""Networks that are sampled fairly, and images that are mixed."""

from collections import Counter

import pytest
import torch
from support.runs import run_of
from torch.nn import functional as F

from dynnas.language.parser import parse_space
from dynnas.training.algorithms.label_smoothing import LabelSmoothing
from dynnas.training.algorithms.mixup import MixedTargets, Mixup
from dynnas.training.algorithms.sampling.fair_sampling import fair_networks
from dynnas.training.distributed.ranks import Batch

SPACE = parse_space("choices: {a: [1, 2, 3, 4], b: [x, y], c: [1, 2, 3]}")


def test_every_value_is_used_as_often():
    """In each step where a gene has as many values as networks; over steps where it has fewer."""
    steps = [fair_networks(SPACE, seed=0, step=step) for step in range(3)]
    assert all(len(networks) == 4 for networks in steps)
    for networks in steps:
        assert sorted(network["a"] for network in networks) == [1, 2, 3, 4]
        assert Counter(network["b"] for network in networks) == {"x": 2, "y": 2}
    assert Counter(network["c"] for networks in steps for network in networks) == {1: 4, 2: 4, 3: 4}
    assert steps[0] != steps[1]
    assert fair_networks(SPACE, seed=0, step=1) == steps[1]
    assert fair_networks(SPACE, seed=1, step=1) != steps[1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_mixed_loss_is_cross_entropy_to_mixed_labels(smoothing):
    logits, labels = torch.randn(6, 5), torch.arange(6) % 5
    mixup = Mixup(alpha=1.0, cutmix_share=0.0)
    run = run_of([LabelSmoothing(smoothing), mixup])
    x = torch.randn(6, 3, 8, 8)
    inputs, targets = mixup.on_batch(run, x, labels)
    assert isinstance(targets, MixedTargets)
    assert 0 < targets.share < 1
    rows = F.one_hot(labels, 5), F.one_hot(targets.second, 5)
    label = targets.share * rows[0] + (1 - targets.share) * rows[1]
    expected = F.cross_entropy(logits, label, reduction="none", label_smoothing=smoothing)
    torch.testing.assert_close(run.target_loss(logits, targets), expected)
    others = [int((labels == second).nonzero()[0]) for second in targets.second]
    if len(set(labels.tolist())) == len(labels):
        torch.testing.assert_close(inputs, targets.share * x + (1 - targets.share) * x[others])


def test_a_cut_share_is_that_of_the_pixels():
    mixup = Mixup(cutmix_share=1.0)
    x = torch.arange(8.0).view(8, 1, 1, 1).expand(8, 1, 10, 10).clone()
    for step in range(20):
        inputs, targets = mixup.on_batch(run_of([mixup], step=step), x, torch.arange(8))
        own = (inputs == x).float().mean((1, 2, 3))
        moved = targets.second != targets.first
        torch.testing.assert_close(own[moved], torch.full_like(own[moved], targets.share))
        other = x[targets.second]
        assert bool(((inputs == x) | (inputs == other)).all())


def test_shares_have_the_mean_and_variance_of_a_beta_distribution():
    mixup = Mixup(alpha=0.4, cutmix_share=0.0)
    x, labels = torch.zeros(2, 1, 1, 1), torch.arange(2)
    shares = torch.tensor([mixup.on_batch(run_of(step=step), x, labels)[1].share for step in range(1000)])
    expected = torch.distributions.Beta(0.4, 0.4)
    assert float(shares.mean()) == pytest.approx(float(expected.mean), abs=0.02)
    assert float(shares.var()) == pytest.approx(float(expected.variance), abs=0.01)


def test_images_are_not_mixed_twice_alike():
    x, labels = torch.randn(8, 1, 4, 4), torch.arange(8)
    first, again, other = (Mixup().on_batch(run_of(step=step), x, labels)[0] for step in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert Batch.whole(8).images == 8
