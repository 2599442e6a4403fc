"""Networks of one supernet that run each image at a resolution of its own."""

import random

import pytest
import torch

from dynnas.language.parser import parse_space
from dynnas.nn.context import PLAIN, Context, Trace, supplied
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.space.moves import sample
from dynnas.supernet.staged import staged_supernet

SPACE = parse_space("""
input: {channels: 2, classes: 5, resolutions: [6, 8, 12], choose: [fixed, per_image], target: [0.4, 0.7]}
stem: {width: [4, 8]}
stages:
- {block: mbconv, depth: [1, 2], width: [8, 12], stride: 2, kernel: [3, 5], expand: [1, 2], op: [static,
   dyconv], attention: [none, se]}
""")


def chosen(count):
    rng = random.Random(0)
    found = (sample(SPACE.restrict({"resolution.choose": ["6+8+12"]}), rng) for _ in range(count))
    return [SPACE.architecture(dict(each)) for each in found]


@pytest.mark.parametrize("architecture", chosen(4))
def test_extracted_equals_elastic_in_outputs_decisions_and_gradients(architecture):
    supernet = staged_supernet(SPACE, channels=2, classes=5).train()
    network = supernet.extract(architecture)
    x = torch.randn(24, 2, 12, 12)
    found = {}

    def extracted(context):
        with supplied(network, context):
            return network.logits(x)

    for name, run in (
        ("elastic", lambda context: supernet(architecture, x, context=context)),
        ("extracted", extracted),
    ):
        torch.manual_seed(1)
        trace = Trace(Decision)
        (logits,) = run(PLAIN.traced(trace))
        decided = trace.of(Decision)
        logits.square().sum().backward()
        found[name] = (logits, decided[0].usage)
        assert len(decided) == 1
        assert logits.shape == (24, 5)
    assert torch.equal(found["elastic"][0], found["extracted"][0])
    assert torch.equal(found["elastic"][1], found["extracted"][1])
    own = network.slots["stem"].conv.weight
    gradient = dict(supernet.slots["stem"].named_parameters())["conv/weight"].grad[: own.shape[0]]
    torch.testing.assert_close(gradient, own.grad, rtol=1e-4, atol=1e-5)
    predictor = dict(supernet.slots["resolution"].named_parameters())
    assert all(parameter.grad is not None for parameter in predictor.values())
    assert predictor["look/1/conv/weight"].grad.abs().sum() > 0


@pytest.mark.parametrize("elastic", [True, False], ids=["elastic", "extracted"])
def test_the_cheapest_is_the_smallest_and_draws_tell_their_likelihood(elastic):
    supernet, (architecture,) = staged_supernet(SPACE, channels=2, classes=5).train(), chosen(1)
    network = supernet.extract(architecture)
    trace = Trace(Decision)
    drawing = Context(GateMode(estimator="reinforce"), trace=trace)
    x = torch.randn(24, 2, 12, 12)

    def run(context):
        if elastic:
            return supernet(architecture, x, context=context)[0]
        with supplied(network, context):
            return network.logits(x)[0]

    torch.manual_seed(1)
    with torch.no_grad():
        run(drawing)
        drawn = run(drawing)
        smallest = drawing.replace(GateMode(choice="cheapest"))
        cheapest = run(smallest)
        assert torch.equal(run(smallest), cheapest)
    decided = trace.of(Decision)
    assert len(decided) == 2
    assert not torch.equal(decided[0].usage, decided[1].usage)
    assert not torch.equal(drawn, cheapest)
    for decision in decided:
        assert decision.logits is not None
        expected = (decision.logits.log_softmax(1) * decision.usage).sum(1)
        torch.testing.assert_close(decision.likelihood, expected)
    assert network.chosen is not None
    with torch.no_grad():
        torch.testing.assert_close(cheapest, network.chosen.branch(x, 0), rtol=1e-4, atol=1e-5)
