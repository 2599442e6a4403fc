"""Folded networks say what the networks say."""

import pytest
import torch
from support.combinations import combinations
from support.networks import config, finished, images
from torch import nn
from torch.testing import assert_close

from dynnas.nn import Conv2d
from dynnas.nn.kernels.kernel import KERNELS
from dynnas.nn.registry import BLOCKS
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.plain import PlainNetwork


@pytest.mark.sampled(10)
@pytest.mark.parametrize(("kind", "op"), combinations(BLOCKS, KERNELS, every=8))
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


class Ordinary(nn.Module):
    """Norms behind layers of all kinds, and two that may not be fused: their input is read twice."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(2, 6, 3, bias=False), nn.BatchNorm2d(6)
        self.up, self.bn_up = nn.ConvTranspose2d(6, 4, 2, 2), nn.BatchNorm2d(4)
        self.mix, self.bn_mix = Conv2d(4, 4, 3, op="dyconv", bias=False), nn.BatchNorm2d(4, affine=False)
        self.twice, self.bn_twice = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.again, self.bn_again = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.linear, self.bn_linear = nn.Linear(4, 5), nn.BatchNorm1d(5)

    def forward(self, x):
        x = self.bn(self.conv(x)).relu()
        x = self.bn_mix(self.mix(self.bn_up(self.up(x))))
        y = self.twice(x)
        x = self.bn_twice(y) + y
        x = self.bn_again(self.again(self.again(x)))
        return self.bn_linear(self.linear(x.mean((2, 3))))


@torch.no_grad()
def test_norms_of_ordinary_modules_are_fused_where_nothing_else_reads_their_input():
    torch.manual_seed(0)
    module = Ordinary().train()
    for parameter in module.parameters():
        parameter.add_(torch.rand_like(parameter) * 0.3)
    for step in range(5):
        module(images(16, seed=step))
    network = PlainNetwork(module.eval(), (2, 12, 12)).eval()
    folded = fold_batchnorm(network)
    kept = [name for name, child in folded.module.named_children() if isinstance(child, nn.BatchNorm2d)]
    assert kept == ["bn_twice", "bn_again"]
    assert not any(isinstance(child, nn.BatchNorm1d) for child in folded.modules())
    for batch in (1, 5):
        assert_close(folded(images(batch)), network(images(batch)), rtol=1e-5, atol=1e-5)
