"""Fully connected layers of a chosen width: torch's products of leading parts, graphs, costs and sharing."""

import numpy as np
import pytest
import torch
from support.contexts import executed
from torch import nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.nn import ConditionalMLP
from dynnas.nn.context import tracing
from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.testing.spaces import check_space

INPUTS, CLASSES = 6, 3


class Net(nn.Module):
    def __init__(self, hidden: int = 10, target: float = 0.5) -> None:
        super().__init__()
        self.mlp = ConditionalMLP(INPUTS, hidden, CLASSES, target)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.mlp(x.flatten(1))


def inputs(count, seed=0):
    return torch.randn(count, 1, 2, 3, generator=torch.Generator().manual_seed(seed))


def lively(module):
    with torch.no_grad():
        for number, value in enumerate(module.parameters()):
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(number)))
    return module.eval()


@torch.no_grad()
def test_an_input_runs_the_leading_units_that_its_policy_says():
    network, x = lively(Net()), inputs(40)
    inner = network.mlp.mlp
    with tracing(network, Decision) as trace:
        found = network(x)
    (decision,) = trace.of(Decision)
    flat, widths = x.flatten(1), (3, 5, 8, 10)
    (policy,) = inner.gate
    said = F.linear(flat, policy.weight, policy.bias).argmax(1)
    assert torch.equal(decision.choice.to(torch.uint8).argmax(1), said)
    assert {*said.tolist()} == {0, 1, 2, 3}
    first, second = inner.block.first, inner.block.second
    for row, y, choice in zip(flat, found, said.tolist(), strict=True):
        width = widths[choice]
        hidden = (first.weight[:width] @ row + first.bias[:width]).relu()
        torch.testing.assert_close(y, second.weight[:, :width] @ hidden + second.bias)
    torch.testing.assert_close(executed(network, "masked")(x), found)


@torch.no_grad()
def test_the_graph_for_one_input_branches_and_costs_follow():
    network = PlainNetwork(lively(Net()), (1, 2, 3), CLASSES).eval()
    x = inputs(24)
    model = to_onnx(network)
    assert [node.op_type for node in model.graph.node].count("If") >= 1
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, network(x).numpy(), rtol=1e-4, atol=1e-5)
    size = cost_of(network)
    assert size.gates[0].macs == tuple(4 * INPUTS + width * (INPUTS + CLASSES) for width in (3, 5, 8, 10))
    with tracing(network, Decision) as trace:
        network(x)
    used = GateUse.of(size, torch.zeros(24, dtype=torch.int64), trace.of(Decision))
    choices = trace.of(Decision)[0].choice.to(torch.uint8).argmax(1)
    assert used.image_macs == tuple(size.gates[0].macs[choice] for choice in choices.tolist())


def test_a_supernet_shares_leading_units():
    check_space(Space.of(Net, hidden=[4, 10, 16]), inputs(3))


def test_it_begins_open():
    network = Net().eval()
    with tracing(network, Decision) as trace:
        network(inputs(4))
    assert bool(trace.of(Decision)[0].choice[:, -1].all())


def test_numbers_below_one_are_refused():
    with pytest.raises(SpaceError, match="0 hidden units and 3 outputs; allowed: 1 or more"):
        ConditionalMLP(4, 0, 3)
    with pytest.raises(SpaceError, match=r"ConditionalMLP: target is 1\.5; allowed: above 0"):
        ConditionalMLP(4, 4, 3, target=1.5)
