"""Accuracy with and without exits, against counting image by image."""

import dataclasses

import pytest
import torch
from support.networks import config, finished, noise, one_after_another
from torch.testing import assert_close

from dynnas.metrics.accuracy import accuracy, predict_logits
from dynnas.runtimes.preprocessing import prepare_images


@pytest.fixture(scope="module")
def dataset():
    return noise()


@pytest.mark.parametrize("exits", [0, 1, 2])
@pytest.mark.parametrize("split", ["search", "test"])
@torch.no_grad()
def test_accuracy_is_that_of_images_leaving_one_by_one(dataset, exits, split):
    network = finished(config(op="dyconv", exits=exits))
    part = getattr(dataset, split)
    x = prepare_images(network, dataset, part.images)
    logits, taken = one_after_another(network, x)
    measured = accuracy(network, dataset, split)
    assert measured.top1 == pytest.approx((logits.argmax(1) == part.targets).double().mean().item())
    assert measured.exit_shares == pytest.approx([taken.count(i) / len(taken) for i in range(exits + 1)])


def test_images_are_normalised_and_resized(dataset):
    network = finished(config())
    flat = torch.full((1, 2, 16, 16), 255, dtype=torch.uint8)
    x = prepare_images(network, dataset, flat)
    assert x.shape == (1, 2, 12, 12)
    assert_close(x[0, :, 5, 5], torch.tensor([0.6 / 0.2, 0.5 / 0.3]))


def test_batches_do_not_change_the_logits(dataset):
    network = finished(config(op="condconv", exits=1))
    whole = predict_logits(network, dataset, dataset.search.images)
    parts = predict_logits(network, dataset, dataset.search.images, batch=9)
    assert [logits.shape for logits in whole] == [(70, 5), (70, 5)]
    assert_close(whole, parts)


def test_a_threshold_that_all_reach_leaves_nothing_for_the_head(dataset):
    network = finished(config(exits=1))
    place = dataclasses.replace(network.config.exits[0], threshold=0.0)
    network.config = dataclasses.replace(network.config, exits=(place,))
    assert accuracy(network, dataset).exit_shares == (1.0, 0.0)
