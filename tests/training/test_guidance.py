"""Gates that are told which images are easy."""

import pytest
import torch
from support import networks
from support.gated import gated_config, undecided, with_gate
from support.runs import forward_of, penalty_of, run_of
from torch.nn import functional as F

from dynnas.nn.context import Context, Trace, supplied, tracing
from dynnas.nn.gates.controls import hold_gates
from dynnas.nn.gates.costs import gate_costs
from dynnas.nn.gates.family import GATES
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import build
from dynnas.testing.conformance import lively
from dynnas.training.algorithms.gates.budget import GateBudget
from dynnas.training.algorithms.gates.guidance import GateGuidance, easy_images, guidance_loss


def test_easy_images_are_to_get_the_cheapest_alternative_and_others_all():
    few, many = torch.randn(3, 2), torch.randn(3, 4)
    decided = [Decision(rows, rows, logits) for rows, logits in ((few, few), (many, many))]
    decided.append(Decision(few, few))  # of a gate that has no logits of alternatives
    found = guidance_loss(decided, torch.tensor([True, False, True]))
    expected = (
        F.cross_entropy(few, torch.tensor([0, 1, 0])) + F.cross_entropy(many, torch.tensor([0, 3, 0]))
    ) / 2
    torch.testing.assert_close(found, expected)
    assert float(guidance_loss(decided[2:], torch.ones(3, dtype=torch.bool))) == 0


@torch.no_grad()
def test_easy_is_what_the_network_of_the_cheapest_gates_is_right_about():
    """By gates that always say the same."""
    network, held = undecided(gated_config(("skip", "width"))), undecided(gated_config(("skip", "width")))
    hold_gates(held, {"stage1.1": (1.0, 0.0), "stage2.0": (1.0, 0, 0, 0)}, random=False)
    images = networks.images(60, seed=5)
    means = held.logits(images)[-1].mean(0)
    for each in (network, held):  # of many minds
        each.slots["head"].classifier.bias.sub_(means)
    answers = held.logits(images)[-1].argmax(1)
    labels = torch.where(torch.arange(60) % 3 == 0, (answers + 1) % networks.CLASSES, answers)

    def again(context):
        with supplied(network, context.traced(trace)):
            return network.logits(images)

    trace = Trace()
    easy = easy_images(run_of(targets=labels), forward_of([], again=again))
    found = trace.of(Decision)
    assert easy.tolist() == [place % 3 != 0 for place in range(60)]
    assert not found
    assert not torch.equal(network.logits(images)[-1].argmax(1), answers)


@pytest.mark.parametrize("gate", GATES)
@torch.no_grad()
def test_every_gate_can_be_at_its_cheapest(gate):
    config = dict(gated_config(("skip", gate)).blocks)["stage1.1" if GATES[gate].keeps_shape else "stage2.0"]
    gated = lively(build(with_gate(config, gate))).eval()
    x = torch.randn(5, 8, 4, 4)
    found = gated(x, context=Context(GateMode(choice="cheapest")))
    if gate == "halt":  # all images run the first block of a run
        expected = gated.block(x)
    else:
        first = gated.choices()[0]
        expected = gated.alone(x, first, Decision(first.float().expand(5, -1), torch.ones(5, 1)))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_gates_learn_from_it_with_its_weight():
    network = undecided(gated_config(("skip", "width"))).train()
    images, labels = networks.images(20, seed=1), torch.arange(20) % networks.CLASSES

    def loss(weight):
        torch.manual_seed(0)
        with tracing(network, Decision) as trace:
            network.logits(images)

        def again(context):
            with supplied(network, context):
                return network.logits(images)

        run = run_of([GateBudget(), GateGuidance(weight)], labels)
        return penalty_of(run, forward_of([], trace, gate_costs(network.config), again=again))

    without, once, twice = (loss(weight) for weight in (0.0, 1.0, 2.0))
    assert float((once - without).detach()) > 0.1
    torch.testing.assert_close(twice - without, 2 * (once - without))
    (once - without).backward()
    for slot in ("stage1__1", "stage2__0"):
        assert float(network.slots[slot].gate[0].expand.weight.grad.abs().sum()) > 0
