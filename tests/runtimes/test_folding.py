"""Folded networks say what the networks say."""

import pytest
import torch
from support.networks import config, finished, images
from torch import nn
from torch.testing import assert_close

from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import BLOCKS
from dynnas.runtimes.folding import fold_batchnorm


@pytest.mark.parametrize("op", KERNELS)
@pytest.mark.parametrize("kind", BLOCKS)
@torch.no_grad()
def test_folding_changes_no_output(kind, op):
    network = finished(config(kind, op, exits=1, attention="se"))
    for batch in (1, 5):
        expected = network.logits(images(batch))
        assert_close(fold_batchnorm(network).logits(images(batch)), expected, rtol=1e-5, atol=1e-5)


def test_nothing_is_left_to_fold_and_the_original_is_untouched():
    network = finished(config(op="condconv", exits=2))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    folded = fold_batchnorm(network)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(parameter.requires_grad for parameter in folded.parameters())
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_a_network_in_training_is_folded_as_in_evaluation():
    network = finished(config())
    expected = network(images(3))
    assert_close(fold_batchnorm(network.train())(images(3)), expected, rtol=1e-5, atol=1e-5)
