"""MSDNet's protocol, against loops over images that follow the paper word by word."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.contexts import decisions
from support.gated import gated_config, undecided
from support.networks import images

from dynnas.metrics.budgeted import NEVER, Judged, budget_curve, fit_thresholds, judge, quota_shares, spend
from dynnas.nn.config.network import ExitConfig, ExitPlace
from dynnas.nn.exits.exits import leave
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.tasks import Classification


def judged(exits, images, seed, levels=0):
    """Random images; with few levels many are equally sure."""
    generator = torch.Generator().manual_seed(seed)
    sure = torch.rand(exits, images, generator=generator)
    if levels:
        sure = (sure * levels).floor() / levels
    return Judged(sure, torch.rand(exits + 1, images, generator=generator) < 0.6)


def fitted_by_loops(sure, shares):
    exits, images = sure.shape
    gone, thresholds = set(), []
    for exit in range(exits):
        order = sorted(range(images), key=lambda image: -float(sure[exit, image]))
        here = [image for image in order if image not in gone]
        wanted = min(math.floor(shares[exit] * images + 1e-6), len(here))
        threshold = float(sure[exit, here[wanted - 1]]) if wanted else NEVER
        gone |= {image for image in here if float(sure[exit, image]) >= threshold}
        thresholds.append(threshold)
    return tuple(thresholds)


def with_saved(split, exit_macs, seed):
    """Gates save each image something before each exit."""
    generator = torch.Generator().manual_seed(seed)
    some = torch.randint(0, exit_macs[0], split.right.shape, generator=generator).cumsum(0)
    return replace(split, saved=some.double())


def spent_by_loops(split, thresholds, macs):
    images = split.right.shape[1]
    hits, cost, taken = 0, 0, []
    for image in range(images):
        exit = next(
            (exit for exit, threshold in enumerate(thresholds) if split.sure[exit, image] >= threshold),
            len(thresholds),
        )
        taken.append(exit)
        hits += bool(split.right[exit, image])
        cost += macs[exit] - (0 if split.saved is None else float(split.saved[exit, image]))
    shares = [taken.count(exit) / images for exit in range(len(thresholds) + 1)]
    return hits / images, shares, cost / images


@settings(max_examples=60, deadline=None)
@given(
    exits=st.integers(1, 4),
    images=st.integers(1, 40),
    quota=st.floats(0.05, 3),
    seed=st.integers(0, 1000),
    levels=st.sampled_from([0, 3]),
    gated=st.booleans(),
)
def test_thresholds_and_costs_are_those_of_loops(exits, images, quota, seed, levels, gated):
    search, test = judged(exits, images, seed, levels), judged(exits, images + 3, seed + 1, levels)
    macs = [10 * (exit + 1) for exit in range(exits + 1)]
    if gated:
        search, test = with_saved(search, macs, seed), with_saved(test, macs, seed + 1)
    (point,) = budget_curve(search, test, macs, [quota])
    assert point.thresholds == fitted_by_loops(search.sure, quota_shares(quota, exits))
    for split, spent in ((search, point.search), (test, point.test)):
        accuracy, shares, cost = spent_by_loops(split, point.thresholds, macs)
        assert spent.accuracy == pytest.approx(accuracy)
        assert spent.shares == pytest.approx(shares)
        assert spent.macs == pytest.approx(cost)


def test_shares_are_geometric():
    assert quota_shares(0.5, 2) == pytest.approx((4 / 7, 2 / 7, 1 / 7))
    assert quota_shares(1, 3) == pytest.approx((0.25,) * 4)
    assert quota_shares(2, 1) == pytest.approx((1 / 3, 2 / 3))


@pytest.mark.parametrize("quota", [0, -1, math.inf, math.nan])
def test_a_quota_is_positive(quota):
    with pytest.raises(ValueError, match=f"a quota is a positive number, not {quota}"):
        quota_shares(quota, 2)


def test_without_ties_the_shares_are_met_on_the_split_that_they_were_fitted_on():
    search = judged(3, 400, seed=0)
    for quota in (0.25, 0.5, 1.0, 2.0):
        shares = quota_shares(quota, 3)
        found = spend(search, fit_thresholds(search.sure, shares), (1, 2, 3, 4)).shares
        assert all(abs(one - two) <= 1 / 400 for one, two in zip(found[:3], shares[:3], strict=True))


def test_a_share_that_is_no_image_is_never_left_by():
    search = judged(2, 10, seed=0)
    assert fit_thresholds(search.sure, (0.05, 0.0, 0.95)) == (NEVER, NEVER)
    assert spend(search, (NEVER, NEVER), (1, 2, 3)).shares == (0, 0, 1)


def test_equally_sure_images_leave_together():
    sure = torch.tensor([[0.5, 0.5, 0.5, 0.2]])
    assert fit_thresholds(sure, (0.25, 0.75)) == (0.5,)
    assert spend(Judged(sure, torch.ones(2, 4, dtype=torch.bool)), (0.5,), (1, 2)).shares == (0.75, 0.25)


def test_times_are_expected_where_all_ways_taken_were_timed():
    split = Judged(torch.tensor([[0.9, 0.1]]), torch.tensor([[True, True], [True, False]]))
    assert spend(split, (0.5,), (10, 30), (1.0, 3.0)).ms == 2.0
    assert spend(split, (0.5,), (10, 30), (1.0, None)).ms is None
    assert spend(split, (0.0,), (10, 30), (1.0, None)).ms == 1.0
    assert spend(split, (0.5,), (10, 30)).ms is None


def test_every_exit_is_judged_by_its_own_criterion():
    places = [
        ExitPlace(name, name, ExitConfig(4, 4, "relu", 2, criterion), 0.5)
        for name, criterion in (("a", "entropy"), ("b", "learned"))
    ]
    even, sure = torch.zeros(2, 2), torch.tensor([[9.0, 0.0, 0.0], [0.0, 9.0, 0.0]])
    found = judge(
        (even, sure, torch.tensor([[0.0, 1.0], [0.0, 1.0]])), places, torch.tensor([0, 1]), Classification()
    )
    assert found.sure.tolist() == [[0.0, 0.0], [0.5, 0.5]]
    assert found.right.tolist() == [[True, False], [True, True], [False, True]]
    assert found.accuracies == (0.5, 1.0, 0.5)


@torch.no_grad()
def test_what_gates_save_counts_up_to_the_exit_that_is_taken():
    network = undecided(gated_config(("skip", "width"), exits=2))
    exits, size = network.config.exits, cost(network.config)
    with decisions(network) as decided:
        outputs = network.logits(images(200))
    split = replace(
        judge(outputs, exits, torch.zeros(200, dtype=torch.int64), Classification()),
        saved=size.saved_macs([decision.usage for decision in decided]),
    )
    _, taken = leave(outputs, exits)
    assert set(taken.tolist()) == {0, 1, 2}
    spent = spend(split, [place.threshold for place in exits], size.exit_macs)
    used = GateUse.of(cost(network.config), taken, decided).image_macs
    assert spent.macs == pytest.approx(sum(used) / len(used))
    assert spent.macs < sum(share * macs for share, macs in zip(spent.shares, size.exit_macs, strict=True))
