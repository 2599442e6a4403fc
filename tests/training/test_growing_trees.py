"""Adaptive neural trees that grow: what is tried, what stands still, and what becomes of data."""

from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import nn

from dynnas.errors import TrainingError
from dynnas.nn import NeuralTree
from dynnas.tasks import Classification
from dynnas.training import grow_tree
from dynnas.training.trainer import Trainer

TASK = Classification(2)
ADAM = partial(torch.optim.Adam, lr=0.05)


def quadrants(count, seed, bends=True):
    """Points by the signs of both numbers, which no line tells; or by one sign."""
    x = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed)).sign() * 1.5
    x += 0.3 * torch.randn(x.shape, generator=torch.Generator().manual_seed(seed + 1))
    return x, ((x[:, 0] > 0) == (x[:, 1] > 0) if bends else x[:, 0] > 0).long()


def batches(count, seed, bends=True):
    x, labels = quadrants(count, seed, bends)
    return [(x[at : at + 64], labels[at : at + 64]) for at in range(0, count, 64)]


class Net(nn.Module):
    def __init__(self, structure=".", hard=False):
        super().__init__()
        self.norm, self.tree = nn.BatchNorm1d(2), NeuralTree(2, 2, structure, hard)

    def forward(self, x):
        return self.tree(self.norm(x))


def loss_of(network, data):
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(network(x), labels, reduction="none") for x, labels in data]
    return float(torch.cat(losses).mean())


@torch.no_grad()
def test_a_leaf_that_is_split_answers_as_before():
    tree, x = NeuralTree(2, 3, "(t.,.)").eval(), torch.randn(5, 2)
    before = tree(x)
    assert tree.leaves() == ["root.left.below", "root.right"]
    deeper = tree.deepen("root.right")
    tree.put("root.left.below", tree.split("root.left.below"))
    assert tree.structure == "(t(.,.),.)"
    torch.testing.assert_close(tree(x), before)
    tree.put("root.right", deeper)
    assert tree.structure == "(t(.,.),t.)"
    again = NeuralTree(2, 3, tree.structure).eval()
    again.load_state_dict(tree.state_dict())
    torch.testing.assert_close(again(x), tree(x), rtol=0, atol=0)


def test_a_tree_grows_where_a_line_does_not_do():
    torch.manual_seed(0)
    network, data, held_out = Net(hard=True), batches(512, seed=0), batches(256, seed=10)
    steps = grow_tree(
        network, TASK, data, held_out, optimizer=ADAM, epochs=15, refine_epochs=3, levels=3, gain=0.01
    )
    first = steps[0]
    assert first.before > 0.6  # a line tells nothing
    chosen = [step for step in steps if step.choice != "keep"]
    assert chosen
    for step, after in pairwise(steps):
        losses = {"split": step.split, "deepen": step.deepen, "keep": step.before}
        best = min(step.split, step.deepen)
        assert losses[step.choice] == pytest.approx(best if step.before - best > 0.01 else step.before)
        assert after.before == pytest.approx(losses[step.choice], rel=1e-4)  # goes on from there
    assert network.tree.structure == steps[-1].structure != "."
    x, labels = quadrants(400, seed=20)
    with torch.no_grad():
        assert float((network(x).argmax(1) == labels).double().mean()) > 0.95
    again = Net(network.tree.structure, hard=True).eval()
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=0)


def test_a_leaf_that_suffices_is_kept_with_all_that_was_there():
    """What was tried leaves no trace: the network is that of an ordinary training."""
    torch.manual_seed(0)
    network, data, held_out = Net(), batches(512, 0, bends=False), batches(256, 10, bends=False)
    plain = Net()
    plain.load_state_dict(network.state_dict())
    steps = grow_tree(network, TASK, data, held_out, optimizer=ADAM, epochs=5, gain=0.05)
    assert [step.choice for step in steps] == ["keep"]
    assert network.tree.structure == "."
    Trainer(plain, TASK, data, optimizer=ADAM(plain.parameters()), epochs=5, seed=1).fit()
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], value, rtol=0, atol=0)
    assert steps[0].before == pytest.approx(loss_of(plain, held_out), rel=1e-5)
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_only_what_is_new_is_trained():
    torch.manual_seed(0)
    network, data = Net("(.,.)"), batches(128, seed=0)
    moved = {}

    class Watching(torch.optim.Adam):
        def __init__(self, parameters):
            given = list(parameters)
            names = {id(value): name for name, value in network.named_parameters()}
            moved[len(moved)] = {names[id(value)] for value in given}
            super().__init__(given, lr=0.05)

    grow_tree(network, TASK, data, data, optimizer=Watching, epochs=1, refine_epochs=1, levels=1, gain=10.0)
    everything = {name for name, _ in network.named_parameters()}
    both = {f"{each}.{kind}" for each in ("left.answer", "right.answer") for kind in ("weight", "bias")}
    router = {"router.weight", "router.bias"}
    deeper = {f"{each}.{kind}" for each in ("transform", "below.answer") for kind in ("weight", "bias")}
    expected = [everything]
    for leaf in ("tree.root.left", "tree.root.right"):
        expected += [{f"{leaf}.{name}" for name in names} for names in (both | router, deeper)]
    assert list(moved.values()) == [*expected, everything]


def test_a_network_without_a_tree_does_not_grow():
    with pytest.raises(TrainingError, match="grow_tree: the network has 0 NeuralTrees; allowed: one"):
        grow_tree(nn.Linear(2, 2), TASK, [], [], optimizer=ADAM, epochs=1)
