"""Exits that are trained apart from a network, or one after the other."""

import pytest
import torch
from support.networks import config, images
from support.runs import forward_of, loss_of, run_of
from torch import nn
from torch.nn import functional as F

from dynnas.nn import EarlyExits
from dynnas.nn.networks.network import Network
from dynnas.training.algorithms.exits.early_exits import EarlyExits as JointExits
from dynnas.training.algorithms.exits.exit_order import ExitOrder, parts_of

LABELS = torch.tensor([0, 2, 1, 1])


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(5, 4)
        stages = [nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3)]
        self.body = EarlyExits(stages, [nn.Linear(4, 3), None, nn.Linear(4, 3)])

    def forward(self, x):
        return self.body(self.stem(x))


def trained(algorithm, step, model):
    """The names of what gets a gradient, and the loss, at a step of ten."""
    model.zero_grad(set_to_none=True)
    joint = JointExits(0.5)
    run = run_of([joint, algorithm], LABELS, model=model, step=step, total=10)
    outputs = list(model.train()(torch.randn(4, 5, generator=torch.Generator().manual_seed(0))))
    loss = loss_of(run, forward_of(outputs))
    loss.backward()
    algorithm.on_gradients(run)
    return {name for name, value in model.named_parameters() if value.grad is not None}, loss, outputs


def names(*prefixes):
    return {name for name, _ in Net().named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize(("step", "late"), [(0, False), (5, False), (6, True), (9, True)])
def test_exits_are_trained_when_the_rest_is_done(step, late):
    found, loss, outputs = trained(ExitOrder(share=0.6), step, Net())
    expected = F.cross_entropy(outputs[0 if late else -1], LABELS)
    torch.testing.assert_close(loss, expected)
    assert found == (names("body.exits.0") if late else names("stem", "body.stages", "body.exits.2"))


def test_all_is_trained_together_at_last():
    found, loss, outputs = trained(ExitOrder("mixed", share=0.5), 4, Net())
    torch.testing.assert_close(loss, F.cross_entropy(outputs[-1], LABELS))
    assert found == names("stem", "body.stages", "body.exits.2")
    found, loss, outputs = trained(ExitOrder("mixed", share=0.5), 5, Net())
    joint = JointExits(0.5)
    run = run_of([joint], LABELS, model=Net())
    torch.testing.assert_close(loss, loss_of(run, forward_of(outputs)))
    assert found == names("")


@pytest.mark.parametrize(("step", "part"), [(0, 0), (4, 0), (5, 1), (9, 1)])
def test_stretches_are_trained_one_after_the_other(step, part):
    found, loss, outputs = trained(ExitOrder("stages"), step, Net())
    torch.testing.assert_close(loss, F.cross_entropy(outputs[part], LABELS))
    first, last = (
        names("stem", "body.stages.0", "body.exits.0"),
        names("body.stages.1", "body.stages.2", "body.exits.2"),
    )
    assert found == (last if part else first)


def test_networks_of_space_files_have_parts():
    network = Network(config("conv", exits=2))
    parts = parts_of(network)
    assert len(parts) == 3
    held = [{id(value) for module in part for value in module.parameters()} for part in parts]
    assert len(set().union(*held)) == sum(map(len, held)) == len(list(network.parameters()))
    algorithm = ExitOrder("stages")
    run = run_of([algorithm], LABELS, model=network, step=5, total=9)
    outputs = list(network.train().logits(images(4)))
    loss_of(run, forward_of(outputs)).backward()
    algorithm.on_gradients(run)
    assert {id(value) for value in network.parameters() if value.grad is not None} == held[1]


def test_networks_without_exits_are_trained_as_ever():
    model = nn.Linear(5, 3)
    algorithm = ExitOrder()
    run = run_of([algorithm], LABELS, model=model)
    output = model(torch.randn(4, 5))
    loss = loss_of(run, forward_of([output]))
    torch.testing.assert_close(loss, F.cross_entropy(output, LABELS))
    loss.backward()
    algorithm.on_gradients(run)
    assert model.weight.grad is not None
