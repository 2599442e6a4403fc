"""Networks that see an image at a glance, and then a part of it."""

import json

import pytest
import torch
from support import networks
from support.glancing import SIZE, glance_config, glancing
from support.networks import CHANNELS, CLASSES, images, one_after_another
from torch.testing import assert_close

from dynnas.nn.config.network import FocusConfig
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.exits.exits import leave
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.cost import cost
from dynnas.nn.networks.glance import Focus, corner, cut_out
from dynnas.nn.networks.network import Network
from dynnas.runtimes.branching import leave_one_after_another
from dynnas.runtimes.folding import fold_batchnorm


def test_a_part_is_a_slice_of_the_image():
    x = images(50)
    middle = torch.rand(50, 2, generator=torch.Generator().manual_seed(0))
    found = cut_out(x, middle, 5, exact=True)
    for image, (down, right), part in zip(x, middle.tolist(), found, strict=True):
        top, left = (round(min(max(place * 12 - 2.5, 0), 7)) for place in (down, right))
        assert torch.equal(part, image[:, top : top + 5, left : left + 5])
    # The whole of it, wherever it is looked for.
    assert torch.equal(cut_out(x, middle, 12, exact=True), x)


def test_between_pixels_a_part_is_interpolated():
    """Against torch's own sampling of a grid."""
    x, middle = images(20), torch.rand(20, 2, generator=torch.Generator().manual_seed(1))
    begin = corner(middle, 12, 5)
    rows, columns = (begin[:, axis, None] + torch.arange(5) for axis in (0, 1))
    grid = torch.stack([columns[:, None, :].expand(-1, 5, -1), rows[:, :, None].expand(-1, -1, 5)], dim=-1)
    expected = torch.nn.functional.grid_sample(x, grid / 11 * 2 - 1, align_corners=True)
    assert_close(cut_out(x, middle, 5, exact=False), expected, rtol=1e-4, atol=1e-5)
    # Where it begins on a pixel both are one.
    whole = (torch.tensor([[3.0, 6.0]]) + 2.5) / 12
    assert_close(cut_out(x[:1], whole, 5, exact=False), cut_out(x[:1], whole, 5, exact=True))


def test_a_new_network_looks_at_the_middle_and_scores_move_it():
    focus = Focus(FocusConfig(3))
    assert_close(focus(torch.zeros(2, 3, 4, 6)), torch.full((2, 2), 0.5))
    maps = torch.zeros(1, 3, 4, 6)
    maps[0, :, 3, 0] = 1.0
    with torch.no_grad():
        focus.score.weight.fill_(30.0)
    assert_close(focus(maps), torch.tensor([[3.5 / 4, 0.5 / 6]]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kinds", [{}, {"op": "dyconv", "attention": "se"}], ids=["static", "dyconv"])
def test_masked_equals_real(kinds):
    network, x = glancing(glance_config(**kinds)), images(40)
    with torch.no_grad():
        outputs = network.logits(x)
        logits, exits = leave(outputs, network.config.exits)
        found, taken = leave_one_after_another(network.segments(), x)
        alone, left = one_after_another(network, x)
        middles = network.slots["focus"](
            network.segments()[0].classifier.unpacked(network.segments()[0].body(x))[1]
        )
    assert set(exits.tolist()) == {0, 1}
    assert len(corner(middles, 12, SIZE).round().unique(dim=0)) > 4, "the test needs different places"
    assert taken.tolist() == exits.tolist() == left
    assert_close(found, logits, rtol=1e-5, atol=1e-5)
    assert_close(alone, logits, rtol=1e-4, atol=1e-4)
    assert_close(fold_batchnorm(network)(x), logits, rtol=1e-4, atol=1e-4)


def test_it_is_two_plain_networks_and_a_head():
    """The glance is the plain network on the small image, the closer look one on a slice."""
    network, x = glancing(glance_config()), images(5)
    plain, closer = (Network(network.config.without_glance().at(SIZE)).eval() for _ in range(2))
    for slot in ("stem", "stage1__0", "stage1__1", "stage2__0"):
        plain.slots[slot] = network.slots[slot]
        closer.slots[slot] = network.slots[f"focus__{slot}"]
    seen = []

    def maps_of(net, image):
        hook = net.slots["head"].register_forward_pre_hook(lambda _, x: seen.append(x[0]))
        net.logits(image)
        hook.remove()
        return seen.pop()

    with torch.no_grad():
        first, last = network.logits(x)
        maps = maps_of(plain, resize(x, SIZE))
        begin = corner(network.slots["focus"](maps), 12, SIZE).round().long()
        parts = [
            image[:, top : top + SIZE, left : left + SIZE]
            for image, (top, left) in zip(x, begin.tolist(), strict=True)
        ]
        details = maps_of(closer, torch.stack(parts))
        assert_close(first, network.slots["exits__glance"](maps), rtol=1e-4, atol=1e-4)
        both = torch.empty(5, 24, *maps.shape[2:])
        both[:, ::2], both[:, 1::2] = maps, details
        assert_close(last, network.slots["focus__head"](both), rtol=1e-4, atol=1e-4)


def test_gradients_reach_where_to_look():
    torch.manual_seed(0)
    network = Network(glance_config()).train()
    network.logits(images(16))[1].square().sum().backward()
    used = {name for name, value in network.named_parameters() if value.grad is not None}
    # The glance's classifier learns by its own loss alone.
    assert {name for name, _ in network.named_parameters()} - used == {
        name for name, _ in network.named_parameters() if name.startswith("slots.exits__glance")
    }
    assert network.slots["focus"].score.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("exit", [0, 1])
def test_leaving_costs_what_was_run(exit):
    config = glance_config(attention="se")
    network = fold_batchnorm(glancing(config))
    counted, x = 0, images(1)
    for segment in network.segments()[: exit + 1]:
        x, macs = count_macs(segment.body, x)
        counted += macs + count_macs(segment.classifier, x)[1]
    size = cost(config)
    assert size.exit_macs[exit] == counted
    resized = CHANNELS * SIZE * 12 * (12 + SIZE)
    if exit == 0:
        assert counted == cost(config.without_glance().at(SIZE)).macs + resized - _heads(config)
    assert size.params == sum(parameter.numel() for parameter in network.parameters()) + _norms(config)


def _heads(config):
    """What the head of the plain network costs more than the classifier of the glance."""
    head, exit_ = config.head, config.exits[0].config
    pixels = 9
    assert head.width == 16
    return pixels * 12 * (head.width - exit_.width) + CLASSES * (head.width - exit_.width)


def _norms(config):
    """Batch norms have a scale and a shift, and folding leaves a bias."""
    plain = Network(config)
    return sum(module.num_features for module in plain.modules() if isinstance(module, torch.nn.BatchNorm2d))


def test_a_config_survives_json():
    config = glance_config()
    assert config_from_dict(json.loads(json.dumps(config_to_dict(config)))) == config
    assert "glance" not in config_to_dict(networks.config())
    assert not config.without_glance().exits
    assert config.without_glance() == networks.config()
