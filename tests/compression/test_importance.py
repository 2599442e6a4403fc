"""Importance of weights against differences of the loss and torch's second derivatives."""

import numpy as np
import pytest
import torch
from support.gated import gated_config
from support.networks import CLASSES, config, finished, images
from torch.nn import functional as F

from dynnas.compression.importance import weight_importance
from dynnas.compression.prune import channel_groups, choose_channels
from dynnas.errors import StudyError, TrainingError
from dynnas.tasks import Classification

TASK = Classification(CLASSES)
HEAD = "slots.head.classifier.weight"


@pytest.fixture(scope="module")
def network():
    return finished(config("conv"))


@pytest.fixture(scope="module")
def batches():
    return [(images(12, seed=seed), torch.arange(12) % CLASSES) for seed in range(2)]


def loss_at(network, name, value, batch):
    x, targets = batch
    return F.cross_entropy(torch.func.functional_call(network, {name: value}, (x,)), targets)


def test_taylor_is_the_first_order_change_of_the_loss_squared(network, batches):
    scores = weight_importance("taylor", network, batches, TASK)
    precise = finished(config("conv")).double()
    for name, place in ((HEAD, (1, 3)), ("slots.stage1__0.conv.conv.weight", (2, 0, 1, 1))):
        weight = precise.get_parameter(name).detach()
        found = []
        for x, targets in batches:
            losses = []
            for share in (1 - 1e-6, 1 + 1e-6):
                moved = weight.clone()
                moved[place] *= share
                losses.append(loss_at(precise, name, moved, (x.double(), targets)).item())
            found.append(((losses[1] - losses[0]) / 2e-6) ** 2)
        assert float(scores[name][place]) == pytest.approx(np.mean(found), rel=1e-3, abs=1e-9)


def test_brain_damage_comes_near_the_diagonal_of_second_derivatives(network, batches):
    scores = weight_importance("obd", network, batches, TASK)[HEAD]
    value = network.get_parameter(HEAD).detach()
    hessian = sum(
        torch.autograd.functional.hessian(lambda each, b=batch: loss_at(network, HEAD, each, b), value)
        for batch in batches
    ) / len(batches)
    diagonal = hessian.reshape(value.numel(), -1).diagonal().view_as(value)
    expected = (value.square() * diagonal / 2).sum(0)  # by the channels that the head reads
    assert np.corrcoef(scores.sum(0), expected)[0, 1] > 0.9


def test_the_channels_that_count_most_stay(network):
    groups = {"head width": channel_groups(network.config)["head width"]}
    scores = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
    scores["slots.head.widen.conv.weight"][[2, 5, 6, 7, 8, 9, 11]] = 1.0
    scores[HEAD][:, 3] = 100.0
    kept = choose_channels(network, groups, 0.5, scores)
    assert kept["head width"].tolist() == [2, 3, 5, 6, 7, 8, 9, 11]


def test_random_importance_looks_at_nothing(network):
    first, again = (weight_importance("random", network, [], TASK) for _ in range(2))
    sizes = weight_importance("magnitude", network, [], TASK)
    assert first.keys() == sizes.keys()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    same = np.corrcoef(first[HEAD].flatten(), sizes[HEAD].flatten())[0, 1]
    assert abs(same) < 0.3
    weight_importance("random", finished(gated_config(("skip", "width"))), [], TASK)


def test_what_has_no_importance_is_one_message(network):
    with pytest.raises(
        StudyError, match=r"importance: found 'tailor' \(did you mean 'taylor'\?\); allowed: magnitude"
    ):
        weight_importance("tailor", network, [], TASK)
    with pytest.raises(TrainingError, match=r"gradients do not reach the gates .* \(stage1\.1\)"):
        weight_importance("obd", finished(gated_config(("skip", "width"))), [], TASK)
