"""Glimpses: patches by loops, the paper's equations, exits, graphs, and learning where to look."""

import numpy as np
import pytest
import torch
from support.contexts import executed
from support.runs import forward_of, penalty_of, run_of
from torch import nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.nn import GlimpseRNN, GlimpseSensor
from dynnas.nn.context import Context, Trace, supplied, tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import sureness
from dynnas.nn.gates.draw import Draw
from dynnas.nn.gates.mode import GateMode
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.tasks import Classification
from dynnas.testing.spaces import check_space
from dynnas.training.algorithms.gates.policy_gradient import PolicyGradient
from dynnas.training.trainer import Trainer

SHAPE, CLASSES = (2, 9, 12), 3


@torch.no_grad()
def test_patches_are_cut_out_around_a_place_and_averaged():
    x, places = torch.randn(5, 2, 9, 12), torch.rand(5, 2) * 2 - 1
    places[0], places[1] = torch.tensor([-1.0, -1.0]), torch.tensor([1.0, 1.0])
    found = GlimpseSensor(3, 3)(x, places)
    for image in range(5):
        y, left = (int(np.floor((float(places[image, at]) + 1) / 2 * side)) for at, side in ((0, 9), (1, 12)))
        for scale in range(3):
            width = 3 * 2**scale
            for row in range(3):
                for column in range(3):
                    sums = torch.zeros(2)
                    for i in range(2**scale):
                        for j in range(2**scale):
                            at = y - width // 2 + row * 2**scale + i
                            to = left - width // 2 + column * 2**scale + j
                            if 0 <= at < 9 and 0 <= to < 12:
                                sums += x[image, :, at, to]
                    own = found[image, 2 * scale : 2 * scale + 2, row, column]
                    torch.testing.assert_close(own, sums / 4**scale)


class Net(nn.Module):
    def __init__(self, size=3, scales=2, glimpses=3, hidden=8, units=6, exits=True):
        super().__init__()
        self.look = GlimpseRNN(
            SHAPE,
            CLASSES,
            size=size,
            scales=scales,
            glimpses=glimpses,
            hidden=hidden,
            units=units,
            exits=exits,
        )

    def forward(self, x):
        return self.look(x)


def lively(**choices):
    """A network whose images are looked at in different places, and leave at different glimpses."""
    torch.manual_seed(0)
    network = Net(**choices)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if value.ndim > 1 and "place" not in name:
                value.mul_(2)
        outputs = network.eval().look.outputs(packed(network, images(64)))
        network.look.thresholds = tuple(float(sureness(output).median()) for output in outputs[:-1])
    return network


def images(count):
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def packed(network, x):
    return torch.cat([x.flatten(1), x.new_zeros(len(x), network.look.units)], dim=1)


@torch.no_grad()
def test_glimpses_follow_the_equations_and_images_leave():
    network, x = lively(), images(24)
    core, head = network.look.stages[0].core, network.look.exits["0"].linear
    places = network.look.places(x)
    assert float(places[:, 2].std(0).min()) > 0.05
    expected, taken = [], []
    for image, found in zip(x, places, strict=True):
        state = torch.zeros(1, 6)
        for number in range(3):
            place = torch.tanh(F.linear(state, core.locate.weight, core.locate.bias))
            torch.testing.assert_close(place[0], found[number])
            patches = core.sensor(image[None], place).flatten(1)
            what = F.linear(patches, core.patch.weight.flatten(1), core.patch.bias).relu()
            glimpse = (core.what(what) + core.where(core.place(place).relu())).relu()
            state = (core.state(state) + core.glimpse(glimpse)).relu()
            answer = head(state)
            if number == 2 or float(answer.softmax(1).max()) >= network.look.thresholds[number]:
                break
        expected.append(answer)
        taken.append(number)
    assert {*taken} == {0, 1, 2}
    with tracing(network, Left) as trace:
        torch.testing.assert_close(network(x), torch.cat(expected))
    assert trace.of(Left)[0].taken.tolist() == taken


@torch.no_grad()
def test_graphs_have_an_if_behind_each_glimpse_and_costs_are_those_of_glimpses():
    network, x = PlainNetwork(lively(), SHAPE, CLASSES).eval(), images(16)
    expected = executed(network, "masked")(x)
    torch.testing.assert_close(executed(network, "real")(x), expected)
    model = to_onnx(network)
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, expected.numpy(), rtol=1e-4, atol=1e-5)
    assert "If" in {node.op_type for node in model.graph.node}
    glimpse = 2 * 6 + 2 * 2 * 9 * 8 + 2 * 8 + 2 * 8 * 6 + 2 * 6 * 6 + 6 * CLASSES
    assert cost_of(network).exit_macs == (glimpse, 2 * glimpse, 3 * glimpse)
    alone = PlainNetwork(lively(exits=False), SHAPE, CLASSES).eval()
    runner = OnnxRunner(to_onnx(alone).SerializeToString(), threads=1)
    np.testing.assert_allclose(runner(x[:1].numpy()), alone(x[:1]).numpy(), rtol=1e-4, atol=1e-5)
    assert cost_of(alone).macs == 3 * glimpse - 2 * 6 * CLASSES


def test_a_class_with_glimpses_is_a_space():
    space = Space.of(Net, size=[3, 5], scales=[1, 2], glimpses=[2, 3], hidden=[4, 8], units=[4, 6])
    check_space(space, torch.randn(3, *SHAPE))


def test_the_policy_gradient_is_that_of_the_mean_reward():
    """With one glimpse, whose places fall on pixels: the mean is a sum over pixels, by normal shares."""
    torch.manual_seed(1)
    shape, steps = (1, 6, 6), 400
    network = GlimpseRNN(shape, CLASSES, size=2, glimpses=1, hidden=8, units=6, spread=0.4).double().train()
    core, image = network.stages[0].core, torch.randn(1, *shape, dtype=torch.double)
    mean = core.locate.bias.tanh()

    def shares(axis):
        edges = torch.arange(1, 7, dtype=torch.double) / 3 - 1  # the last pixel is that of all places beyond
        below = torch.distributions.Normal(mean[axis], 0.4).cdf(edges)
        return torch.diff(below, prepend=below.new_zeros(1), append=below.new_ones(1))

    with torch.no_grad():
        middles = ((torch.arange(7, dtype=torch.double) + 0.5) / 3 - 1).clamp(max=1)
        cells = torch.cartesian_prod(middles, middles)
        core.place.weight.zero_()  # what is seen depends on pixels alone
        for layer in (core.patch, core.what, core.glimpse):
            layer.weight.mul_(4)
        state = core(image.expand(49, -1, -1, -1), cells, torch.zeros(49, 6, dtype=torch.double))
        said = network.exits["0"](state).argmax(1).view(7, 7)
    target = int(said[2, 2])
    right = (said == target).double()
    assert 0.1 < float(right.mean()) < 0.9  # the reward depends on the place
    exact = torch.autograd.grad(-(shares(0)[:, None] * shares(1) * right).sum(), core.locate.bias)[0]

    levels = torch.special.ndtri((torch.arange(steps, dtype=torch.double) + 0.5) / steps)
    noise = torch.cartesian_prod(levels, levels)
    trace = Trace(Draw)
    targets = torch.full((len(noise),), target)
    run = run_of([PolicyGradient(baseline=0.0)], targets)
    with supplied(network, Context(GateMode(sample=lambda draw, like: noise), trace=trace)):
        outputs = network(image.expand(len(noise), -1, -1, -1))
    loss = penalty_of(run, forward_of(list(outputs), trace))
    gradients = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True)
    found = dict(zip((name for name, _ in network.named_parameters()), gradients, strict=True))
    torch.testing.assert_close(found.pop("stages.0.core.locate.bias"), exact, rtol=0.03, atol=1e-3)
    assert float(exact.abs().min()) > 0.01
    # a state of zeros; nothing else learns by the reward
    assert all(value is None or not value.any() for value in found.values())


def test_what_is_expected_becomes_the_mean_reward():
    draws = [Draw(torch.zeros(4), torch.full((4,), 0.5, requires_grad=True), torch.tensor([1.0, 1, 0, 1]))]
    outputs, targets = [torch.eye(4)[:, :3]], torch.tensor([0, 1, 0, 1])
    trace = forward_of(outputs).trace
    trace.record(draws[0])
    loss = penalty_of(run_of([PolicyGradient()], targets), forward_of(outputs, trace))
    assert float(loss.detach()) == pytest.approx(3 * 0.25 / 4)
    (gradient,) = torch.autograd.grad(loss, draws[0].expected)
    torch.testing.assert_close(gradient, torch.tensor([-0.25, -0.25, 0, 0.25]))


def signs(count, places, seed, side=16):
    """Images with a mark at one of these places: its pattern is the class, its mean is the same."""
    generator = torch.Generator().manual_seed(seed)
    place = torch.randint(len(places), (count,), generator=generator)
    label = torch.randint(2, (count,), generator=generator)
    x = torch.zeros(count, 1, side, side)
    pattern = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    for image in range(count):
        top, left = places[int(place[image])]
        x[image, 0, top : top + 2, left : left + 2] = 8 + 4 * pattern * (1 - 2 * label[image])
    return x, label


def told(places, epochs, algorithms):
    """The share of new images that are told after a training."""
    torch.manual_seed(3)
    network = GlimpseRNN((1, 16, 16), 2, size=6, scales=3, glimpses=2, hidden=32, units=32, spread=0.4)
    x, labels = signs(512, places, seed=0)
    batches = [(x[at : at + 64], labels[at : at + 64]) for at in range(0, 512, 64)]
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    task = Classification(2)
    Trainer(network, task, batches, algorithms=algorithms, optimizer=optimizer, epochs=epochs).fit()
    with torch.no_grad():
        x, labels = signs(400, places, seed=1)
        return float((network(x).argmax(1) == labels).double().mean())


SIDES = [(7, 2), (7, 12)]
CORNERS = [(2, 2), (2, 12), (12, 2), (12, 12)]


def test_it_learns_to_look():
    """Coarse patches say where the mark is, and only fine ones what it is."""
    assert told(SIDES, 50, ["policy_gradient"]) > 0.95
    assert told(SIDES, 25, []) < 0.7  # its places do not learn


@pytest.mark.slow
def test_it_learns_to_look_into_corners():
    """A place that is the same for all images would tell 5 of 8."""
    assert told(CORNERS, 150, ["policy_gradient"]) > 0.8


def test_what_cannot_be_looked_at_is_refused():
    with pytest.raises(SpaceError, match="GlimpseSensor: size is 0 and scales is 1; allowed: 1 or more"):
        GlimpseSensor(0)
    with pytest.raises(SpaceError, match=r"glimpses is 0, hidden 128, units 256, .*; allowed: 1 or"):
        GlimpseRNN(SHAPE, CLASSES, glimpses=0)
