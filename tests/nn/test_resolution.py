"""Networks that run each image at a resolution of its own."""

import copy
import json

import pytest
import torch
from support import networks
from support.contexts import decisions, executed
from support.sized import SIZES, hold, sized_config, undecided
from torch.testing import assert_close

from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.gates.controls import hold_gates
from dynnas.nn.gates.costs import gate_costs
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.dropout import Dropout
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.resize import Resize, resize
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.gate_use import GateUse
from dynnas.nn.networks.modes import settle
from dynnas.nn.networks.network import Network
from dynnas.runtimes.folding import fold_batchnorm


def test_a_network_resizes_as_the_data_does():
    x = networks.images(3)
    for size in (5, 8, 12, 17):
        assert_close(Resize(12, size)(x), resize(x, size), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["static", "dyconv", "dynet"])
@pytest.mark.parametrize("batch", [1, 13])
def test_masked_equals_real(op, batch):
    network, x = undecided(sized_config(op=op, attention="se")), networks.images(batch, seed=5)
    with torch.no_grad(), decisions(network) as found:
        masked = network(x)
        network = executed(network, "real")
        assert_close(network(x), masked, rtol=1e-5, atol=1e-5)
        alone = torch.cat([network(image[None]) for image in x])
    assert_close(alone, masked, rtol=1e-5, atol=1e-5)
    assert found[0].usage.sum(1).tolist() == [1.0] * batch
    if batch > 1:
        assert len(found[0].usage.unique(dim=0)) == len(SIZES)


@pytest.mark.parametrize("size", SIZES)
def test_a_network_held_to_one_resolution_is_the_plain_one(size):
    network, x = undecided(sized_config()), networks.images(7)
    hold(network, size)
    plain = Network(network.config.at(size)).eval()
    member = network.chosen.members[SIZES.index(size)]
    plain.load_state_dict(member.state_dict())
    assert set(plain.state_dict()) == set(member.state_dict())
    with torch.no_grad():
        assert_close(network(x), plain(resize(x, size)), rtol=1e-5, atol=1e-5)
        if size == SIZES[-1]:
            network = executed(network, "masked", choice="all")
            assert_close(network(x), plain(x), rtol=0, atol=0)


def test_resolutions_share_weights_but_no_statistics():
    network = undecided(sized_config())
    smallest, *_, largest = network.chosen.members
    assert largest.slots["stem"] is network.slots["stem"]
    for name, parameter in smallest.named_parameters():
        assert parameter is largest.get_parameter(name)
    norms = [member.slots["stage1__0"].expand.norm for member in (smallest, largest)]
    assert norms[0].weight is norms[1].weight
    assert not torch.equal(norms[0].running_var, norms[1].running_var)
    folded = fold_batchnorm(network)
    assert not torch.equal(*(member.slots["stem"].conv.weight for member in folded.chosen.members[::2]))
    x = networks.images(9)
    with torch.no_grad():
        assert_close(folded(x), network(x), rtol=1e-4, atol=1e-4)


def test_gradients_reach_the_predictor_and_every_size():
    network = Network(sized_config()).train()
    for module in network.modules():
        if isinstance(module, Dropout):
            module.rate = 0.0
    x, weights = networks.images(32), torch.randn(32, networks.CLASSES)
    (network(x) * weights).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    assert network.chosen.gate.look[1].conv.weight.grad.abs().sum() > 0

    def gradient_of(output):
        network.zero_grad()
        (output * weights).sum().backward(retain_graph=True)
        return network.slots["stem"].conv.weight.grad.clone()

    # A shared kernel's gradient is the sum over the sizes, of the images that take each.
    decision = network.chosen.decide(x)
    taken = decision.weights.detach().unbind(1)
    parts = [gradient_of(network.chosen.branch(x, size) * taken[size][:, None]) for size in range(len(SIZES))]
    assert all(part.abs().sum() > 0 for part in parts)
    assert_close(gradient_of(network.chosen.masked(x, decision)), sum(parts), rtol=1e-4, atol=1e-4)


def test_the_state_has_each_weight_once():
    network = undecided(sized_config())
    state = network.state_dict()
    floats = sum(value.numel() for name, value in state.items() if value.ndim > 1)
    assert floats == sum(parameter.numel() for parameter in network.parameters() if parameter.ndim > 1)
    other = Network(sized_config())
    assert weights_digest(other) != weights_digest(network)
    other.load_state_dict(copy.deepcopy(state))
    assert weights_digest(other) == weights_digest(network)
    inside = torch.nn.Sequential(Network(sized_config()))
    inside.load_state_dict({f"0.{name}": value for name, value in state.items()})
    x = networks.images(3)
    with torch.no_grad():
        assert_close(other.eval()(x), network(x), rtol=0, atol=0)
        assert_close(inside.eval()(x), network(x), rtol=0, atol=0)
        assert_close(copy.deepcopy(network)(x), network(x), rtol=0, atol=0)
    del state["slots.stem.conv.weight"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "slots.stem.conv.weight"'):
        other.load_state_dict(state)


def test_an_image_costs_what_it_runs():
    """Counted on the network itself, run on one image after the other, by torch's counter."""
    config = sized_config(attention="se")
    network, x = undecided(config), networks.images(40, seed=3)
    folded = fold_batchnorm(network)
    folded = executed(folded, "real")
    with torch.no_grad(), decisions(network) as found:
        network.logits(x)
    size = cost(config)
    expected = [count_macs(folded, image[None])[1] for image in x]
    assert size.image_macs(torch.zeros(40, dtype=torch.int64), [found[0].usage]).tolist() == expected
    use = GateUse.of(cost(config), torch.zeros(40, dtype=torch.int64), found)
    assert list(use.image_macs) == expected
    assert use.policies == len(set(expected)) == len(SIZES)
    assert set(use.shares["resolution"]) == {"6", "8", "12"}
    (costs,) = gate_costs(config)
    assert (costs.slot, costs.target, size.macs) == ("resolution", 0.5, max(costs.macs))
    plain = cost(config.at(12))
    assert costs.full == plain.macs
    looking = size.macs - plain.macs
    resized = networks.CHANNELS * 8 * 12 * (8 + 12)
    assert costs.macs[1] == cost(config.at(8)).macs + looking + resized
    # What looks at the image is small beside what it may save.
    assert looking < 0.1 * plain.macs
    gate = copy.deepcopy(network.chosen.gate)
    settle(gate)
    assert size.params - plain.params == sum(parameter.numel() for parameter in gate.parameters())


def test_controls_do_not_look_at_the_image():
    x = networks.images(400, seed=7)
    network = undecided(sized_config())
    hold_gates(network, {"resolution": (0.2, 0.5, 0.3)}, random=False)
    plain = network.chosen.branch(x, 1)
    with torch.no_grad():
        assert_close(network(x), plain, rtol=1e-5, atol=1e-5)
    hold_gates(network, {"resolution": (0.2, 0.5, 0.3)}, random=True)
    with torch.no_grad(), decisions(network) as found:
        masked = network(x)
        network = executed(network, "real")
        assert_close(network(x), masked, rtol=1e-5, atol=1e-5)
    shares = found[0].usage.mean(0)
    assert_close(shares, torch.tensor([0.2, 0.5, 0.3]), rtol=0, atol=0.08)


def test_a_config_survives_json():
    config = sized_config()
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert "choice" not in config_to_dict(networks.config())
    assert config.branches
    assert not config.without_gates().branches
