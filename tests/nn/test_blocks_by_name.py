"""Blocks and gates with ordinary arguments, in networks that nothing else of dynnas made."""

import copy

import pytest
import torch
from support.slot_configs import pictures
from torch import nn
from torch.testing import assert_close

import dynnas.nn as dnn
from dynnas.errors import SpaceError
from dynnas.nn.context import Context, tracing, with_context
from dynnas.nn.gates.costs import gate_costs_of
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.testing.conformance import lively


def images(batch=24):
    return pictures(batch, 6)


class Counted(nn.Module):
    """A convolution that counts the images which it runs."""

    def __init__(self):
        super().__init__()
        self.conv, self.images = nn.Conv2d(8, 8, 3, padding=1), 0

    def forward(self, x):
        self.images += len(x)
        return self.conv(x)


def skippable(target=0.5):
    """Of two minds: with random weights alone a gate would mostly say one thing."""
    torch.manual_seed(0)
    made = lively(dnn.Skippable(Counted(), 8, target)).eval()
    with torch.no_grad():
        features = made.gate[0]
        features.expand.bias.sub_(features(images(61)).median(0).values)
    return made


@torch.no_grad()
def test_in_evaluation_the_module_runs_only_the_images_that_do_not_pass_it_by():
    made, x = skippable(), images()
    logits = made.gate(x)
    runs = logits.argmax(1) == 1
    assert 0 < int(runs.sum()) < len(x)
    y = made(x)
    assert made.block.images == int(runs.sum())
    assert_close(y[runs], made.block.conv(x[runs]), rtol=1e-4, atol=1e-4)
    assert torch.equal(y[~runs], x[~runs])
    assert_close(torch.cat([made(image[None]) for image in x]), y, rtol=1e-4, atol=1e-4)


def test_in_training_gradients_reach_module_and_gate():
    made = skippable().train()
    made(images()).square().sum().backward()
    assert made.block.images == 24
    assert not [name for name, parameter in made.named_parameters() if parameter.grad is None]


@torch.no_grad()
def test_its_cost_is_that_of_the_module():
    made = skippable(target=0.4)
    network = nn.Sequential(nn.Conv2d(3, 8, 1), made)
    (cost,) = gate_costs_of(network, lambda: network(torch.randn(2, 3, 6, 6)))
    assert (cost.slot, cost.target, cost.alternatives) == ("1", 0.4, ("skip", "run"))
    assert cost.full == 8 * 8 * 9 * 36
    gate = 8 * 4 + 4 * 2
    assert cost.macs == (gate, gate + cost.full)


@torch.no_grad()
def test_its_decisions_are_recorded():
    made = skippable()
    with tracing(made, Decision) as trace:
        made(images())
    (decision,) = trace.of(Decision)
    assert torch.equal(decision.choice[:, 1], made.gate(images()).argmax(1) == 1)


def test_it_is_copied_and_saved():
    made = skippable()
    other = copy.deepcopy(made)
    other.load_state_dict(made.state_dict())
    with torch.no_grad():
        assert_close(other(images()), made(images()), rtol=0, atol=0)


@torch.no_grad()
def test_a_static_block_is_what_torch_computes():
    made = dnn.block("basic", 8, 8, kernel=3).eval()
    x = images()
    first = torch.relu(made.first.norm(nn.functional.conv2d(x, made.first.conv.weight, padding=1)))
    second = made.second.norm(nn.functional.conv2d(first, made.second.conv.weight, padding=1))
    assert_close(made(x), torch.relu(second + x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", dnn.BLOCKS)
def test_every_block_has_ordinary_arguments(kind):
    y = dnn.block(kind, 8, 12, stride=2, kernel=5, attention="se", activation="hswish")(images())
    assert y.shape == (24, 12, 3, 3)


@pytest.mark.parametrize("gate", dnn.GATES)
@torch.no_grad()
def test_every_gate_masks_what_it_really_leaves_out(gate):
    made = lively(dnn.block("mbconv", 8, 8, expand=2, gate=gate, gate_target=0.5)).eval()
    real = with_context(made, Context(GateMode(execution="real")))
    scale = float(made(images()).abs().max())
    assert_close(real(images()), made(images()), rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "mbcon"}, r"block: block is 'mbcon'; allowed: shuffle_v1"),
        ({"kind": "conv", "op": "dfn"}, "op 'dfn' makes no sense with block 'conv': it generates depthwise"),
        ({"kind": "conv", "gate": "width"}, "gate 'width' makes no sense with block 'conv'"),
        ({"kind": "mbconv", "expand": 0}, "block: expand is 0; allowed: a number from 1 to 32"),
        ({"kind": "msd"}, "block: msd and gates that look at other values take part in whole networks alone"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, message):
    with pytest.raises(SpaceError, match=message):
        dnn.block(arguments.pop("kind"), 8, 8, **arguments)


def test_an_unknown_knob_is_refused():
    with pytest.raises(TypeError, match=r"block: unknown knob 'expnd' \(did you mean 'expand'\?\)"):
        dnn.block("mbconv", 8, 8, expnd=2)
    with pytest.raises(SpaceError, match="Skippable: target is 0; allowed: above 0"):
        dnn.Skippable(nn.Identity(), 8, 0)
