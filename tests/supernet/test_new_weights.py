"""New weights for a trained network: drawn as layers draw them, and nothing of the trained ones is left."""

import pytest
import torch
from support.trained import FAMILIES, trained
from torch import nn

import dynnas as dn
from dynnas.space.moves import largest
from dynnas.supernet.fresh import draw_weights

IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def test_layers_draw_what_their_constructors_draw():
    """The witness is torch: limits of its uniform distributions, norms that do nothing."""
    network = trained("resnet")
    assert draw_weights(network, 0) == []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            fan_in = layer.weight[0].numel()
            assert 0.5 < float(layer.weight.detach().abs().max()) * fan_in**0.5 <= 1.0
        elif isinstance(layer, nn.BatchNorm2d):
            assert bool((layer.weight == 1).all())
            assert bool((layer.running_var == 1).all())
            assert int(layer.num_batches_tracked) == 0


@pytest.mark.parametrize("family", list(FAMILIES))
def test_no_trained_weight_is_left(family):
    before, network = dict(trained(family).named_parameters()), trained(family)
    draw_weights(network, 0)
    again = trained(family)
    draw_weights(again, 0)
    for name, now in network.named_parameters():
        assert bool(now.isfinite().all()), name
        assert torch.equal(now, again.get_parameter(name)), name
        constant = len(before[name].unique()) == 1 or len(now.unique()) == 1
        assert constant or not bool((now == before[name]).any()), name


class Tokens(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(3.0 + torch.randn(1, 1, 4096))
        self.attention = nn.MultiheadAttention(32, 2)
        self.normed = nn.utils.parametrizations.weight_norm(nn.Linear(32, 32))


@torch.no_grad()
def test_what_no_layer_draws_keeps_its_mean_and_deviation():
    torch.manual_seed(0)
    network = Tokens()
    token, kernel = network.token.detach().clone(), network.normed.weight.detach().clone()
    left = draw_weights(network, 1)
    assert left == [
        "token",
        "normed.parametrizations.weight.original0",
        "normed.parametrizations.weight.original1",
    ]
    assert float(network.token.mean()) == pytest.approx(3.0, abs=0.1)
    assert float(network.token.std()) == pytest.approx(1.0, abs=0.1)
    assert not torch.equal(network.token, token)
    assert not torch.equal(network.normed.weight, kernel)
    assert not bool(network.attention.in_proj_bias.any())


@torch.no_grad()
def test_a_space_of_new_weights_has_the_same_choices_and_no_teacher():
    network = trained("resnet")
    options = {"ops": ("condconv",), "gates": (0.5,), "exits": ["stage1"]}
    space, fresh = (dn.elastic(network, IMAGES, fresh=given, seed=3, **options) for given in (False, True))
    assert fresh.genes == space.genes
    assert fresh.digest != space.digest
    assert (space.model.teaches, fresh.model.teaches) == (True, False)
    values = largest(space)
    drawn = fresh.build(values)
    assert not torch.allclose(drawn(IMAGES), network(IMAGES))
    again = dn.elastic(network, IMAGES, fresh=True, seed=3, **options)
    assert torch.equal(again.build(values)(IMAGES), drawn(IMAGES))
    # Kernels in a bank begin around the new kernel, gates open and exits unsure.
    beside = {**values, "stem.0.op": "condconv", "stage1.1.gate": "skip 0.5", "exits.at": "stage1"}
    torch.testing.assert_close(fresh.build(beside)(IMAGES), drawn(IMAGES), rtol=1e-4, atol=1e-5)
    supernet = dn.Supernet(fresh)
    assert torch.equal(supernet.extract(values).eval()(IMAGES), drawn(IMAGES))
