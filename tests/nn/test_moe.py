"""Mixtures of experts: what is chosen, what it costs, and the losses that keep experts busy."""

import math

import pytest
import torch
from support.contexts import decisions, executed
from support.slot_configs import block, gated, pictures
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.nn.gates.families.moe import best, load
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.state import Flow
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively
from dynnas.training.algorithms.gates.budget import squared_variation


def mixture(experts=4, target=0.5, kind="mbconv", **more):
    config = block(kind, **{"expand": 2.0, **more})
    return gated(config, "moe", target, experts=experts)


@torch.no_grad()
def test_the_block_is_a_weighted_sum_of_experts_that_are_blocks_of_their_own():
    """By hand: expert i has every fourth hidden channel from i on; batch norm is that of the sum."""
    module = lively(build(mixture())).eval()
    own, x = module.block, pictures(5)
    total = torch.zeros(5, 8, 4, 4)
    with decisions(module) as found:
        y = module(x)
    weights = found[0].weights
    for expert in range(4):
        kept = slice(expert, 16, 4)
        h = F.conv2d(x, own.expand.conv.weight[kept])
        h = F.relu(normed(own.expand.norm, h, kept))
        h = F.conv2d(h, own.depthwise.conv.weight[kept], padding=1, groups=4)
        h = F.relu(normed(own.depthwise.norm, h, kept))
        total += weights[:, expert, None, None, None] * F.conv2d(h, own.project.conv.weight[:, kept])
    torch.testing.assert_close(y, x + own.project.norm(total), rtol=1e-4, atol=1e-4)


def normed(norm, h, kept):
    return F.batch_norm(
        h, norm.running_mean[kept], norm.running_var[kept], norm.weight[kept], norm.bias[kept]
    )


SETS = {(4, 0.25): 4, (4, 0.5): 6, (4, 0.75): 4, (2, 0.5): 2, (8, 0.1): 8, (3, 0.6): 3}


@pytest.mark.parametrize(("experts", "target"), SETS)
@pytest.mark.parametrize("hidden", [16, 11])
@torch.no_grad()
def test_in_a_graph_a_set_of_experts_is_a_branch(experts, target, hidden):
    """The experts from which an image takes what it runs elsewhere."""
    module = lively(build(mixture(experts, target, expand=hidden / 8))).eval()
    assert module.ways() == SETS[experts, target]
    logits = module.gate[0]
    logits.expand.weight.mul_(10)
    logits.expand.bias.sub_(logits(pictures(40)).median(0).values)
    taken = set()
    for x in pictures(40).split(1):
        assert module.branches_on(Flow(x))
        with decisions(module) as found:
            y = module(x)
        votes, told = module.votes(Flow(x))
        way = int(votes.argmax())
        taken.add(way)
        assert module.sets[way] == tuple(found[0].choice[0].nonzero().flatten().tolist())
        torch.testing.assert_close(module.alternative(told, way).x, y, rtol=1e-4, atol=1e-4)
    assert len(taken) > 1


@pytest.mark.parametrize(("experts", "target"), [(8, 0.5), (4, 1.0)])
def test_a_graph_has_no_branches_for_many_sets_or_one(experts, target):
    module = build(mixture(experts, target))
    assert not module.branches_on(Flow(pictures(1)))
    assert type(module).leaves_out(module.config) == (target == 1)


def test_the_best_are_weighed_by_their_softmax():
    logits = torch.tensor([[1.0, 3.0, 2.0, 0.0], [0.0, -1.0, -9.0, 5.0]])
    e = math.exp(1)
    expected = torch.tensor([[0, e / (1 + e), 1 / (1 + e), 0], [1 / (1 + e**5), 0, 0, e**5 / (1 + e**5)]])
    torch.testing.assert_close(best(logits, 2), expected)
    assert best(logits, 1).tolist() == [[0, 1, 0, 0], [0, 0, 0, 1]]
    assert best(torch.zeros(1, 4), 2).tolist() == [[0.5, 0.5, 0, 0]]  # of equals the first


def test_one_that_is_chosen_is_there_however_little_it_counts():
    assert (best(torch.tensor([[500.0, 0.0, -500.0]]), 2) > 0).tolist() == [[True, True, False]]


def test_a_single_expert_learns_by_its_softmax_among_all():
    logits = torch.tensor([[0.3, 1.0, -0.5]], requires_grad=True)
    best(logits, 1)[0, 1].backward()
    again = logits.detach().requires_grad_()
    torch.softmax(again, dim=1)[0, 1].backward()
    torch.testing.assert_close(logits.grad, again.grad)


def test_load_is_the_chance_to_be_among_the_best_when_noise_is_drawn_anew():
    """The load by many draws, for one expert after the other."""
    generator = torch.Generator().manual_seed(0)
    logits, spread = torch.randn(3, 5, generator=generator), torch.rand(3, 5, generator=generator) + 0.2
    noisy = logits + spread * torch.randn(3, 5, generator=generator)
    found = load(logits, noisy, spread, 2).sum(0)
    for expert in range(5):
        chances = 0.0
        for row in range(3):
            others = noisy[row][torch.arange(5) != expert].sort(descending=True).values
            drawn = logits[row, expert] + spread[row, expert] * torch.randn(100_000, generator=generator)
            chances += float((drawn > others[1]).float().mean())
        assert found[expert].item() == pytest.approx(chances, abs=0.01)


def test_what_an_image_adds_to_the_load_by_hand():
    """Two images, two experts, one of them run: both choose the first."""
    logits = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    spread = torch.tensor([[1.0, 0.5], [2.0, 1.0]])
    expected = [[phi((1 - 0) / 1), phi((0 - 1) / 0.5)], [phi((2 - 0) / 2), phi((0 - 2) / 1)]]
    torch.testing.assert_close(load(logits, logits, spread, 1), torch.tensor(expected))


def phi(z):
    return (1 + math.erf(z / 2**0.5)) / 2


def test_noise_and_loads_are_for_training():
    module = lively(build(mixture()))
    x = pictures(20)
    torch.manual_seed(0)
    with decisions(module) as found:
        for training in (True, True, False, False):
            module.train(training)
            module(x)
    assert not torch.equal(found[0].choice, found[1].choice)
    assert torch.equal(found[2].weights, found[3].weights)
    torch.testing.assert_close(found[0].loads[:, 0], found[0].weights / 2)  # of two experts each
    assert found[2].loads is None
    assert [int(decision.choice.sum()) for decision in found] == [40] * 4


@pytest.mark.parametrize("target", [0.25, 0.5])
def test_router_and_noise_learn_from_the_task_and_from_the_balance(target):
    module = build(mixture(target=target)).train()
    torch.manual_seed(0)
    with decisions(module) as found:
        y = module(pictures(30))
    uneven = squared_variation(found[0].loads.mean(0)).sum()
    for loss in (y.square().sum(), uneven):
        module.zero_grad()
        loss.backward(retain_graph=True)
        for name in ("gate.moe.expand.weight", "gate.moe.spread.weight"):
            assert float(module.get_parameter(name).grad.abs().sum()) > 0, name


@torch.no_grad()
def test_multiply_adds_are_those_of_the_chosen_experts_and_the_router():
    """8 to 8 channels, 16 hidden, 4x4 pixels: an expert has 4 hidden channels."""
    module = build(mixture()).eval()
    module = executed(module, "real")
    pixels, expert = 16, 8 * 4 + 4 * 9 + 4 * 8
    router = 8 * 4 + 4 * 4  # 8 inputs, 4 hidden units, 4 logits
    assert count_macs(module, pictures(1))[1] == 2 * expert * pixels + router
    (chosen, every) = module.choices()
    weights = torch.ones(1, 4)
    for choice, count in ((chosen, 2), (every, 4)):
        x = pictures(1)
        ran = Alone(module, choice, Decision(weights, weights))
        assert count_macs(ran, x)[1] == count * expert * pixels


class Alone(torch.nn.Module):
    def __init__(self, module, choice, decision):
        super().__init__()
        self.module, self.choice, self.decision = module, choice, decision

    def forward(self, x):
        return self.module.alone(x, self.choice, self.decision)


@torch.no_grad()
def test_images_say_which_experts_they_run_where_these_differ_in_size():
    """18 hidden channels, 4 experts: two of 5 and two of 4; two of them have 8, 9 or 10 channels."""
    config = mixture(expand=2.25)
    module = lively(build(config)).eval()
    assert module.alternatives(config) == ("8 channels", "9 channels", "10 channels", "all")
    sizes = torch.tensor([5, 5, 4, 4])
    assert [int(sizes[choice].sum()) for choice in module.choices()] == [8, 9, 10, 18]
    features = module.gate[0]
    features.expand.bias.sub_(features(pictures(60)).median(0).values)
    with decisions(module) as found:
        module(pictures(60))
    channels = (found[0].choice * sizes).sum(1)
    assert torch.equal(found[0].usage.argmax(1), channels - 8)
    assert len(channels.unique()) > 1


def test_there_are_no_more_experts_than_channels():
    module = build(mixture(experts=9, kind="bottleneck", out_channels=12))
    assert (module.experts, module.kept, module.hidden) == (3, 2, 3)


def test_experts_are_words_of_the_language():
    space = parse_space(
        "input: {resolutions: 8}\nstem: {width: 8}\n"
        "stages:\n- {width: 8, gate: [none, moe], gate_experts: [2, 8]}"
    )
    assert space.gene("stage1.0.gate_experts").condition == (("stage1.0.gate", ("moe",)),)
    largest = space.covering_configs(1, 10)["stage1.0"]
    assert {(found.gate.name, found.gate.get("experts")) for found in largest} == {("moe", 8), ("none", None)}
    assert all(found.without_gate().gate.params == () for found in largest)


def test_what_makes_no_sense_says_so():
    with pytest.raises(SpaceError, match="'moe' has a knob 'experts', and its config has none"):
        build(mixture(experts=None))
    with pytest.raises(SpaceError, match="block 'conv' has no hidden channels"):
        build(mixture(kind="conv"))
