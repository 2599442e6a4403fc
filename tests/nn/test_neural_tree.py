"""Adaptive neural trees: means over ways by recursion, single ways, graphs that branch, growth, sharing."""

import numpy as np
import pytest
import torch
from torch import nn

from dynnas.nn import NeuralTree
from dynnas.nn.trees.neural_tree import grown
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.testing.spaces import check_space

INPUTS, CLASSES, STRUCTURE = 5, 3, "(t(.,t.),.)"


def rows(count):
    return torch.randn(count, INPUTS, generator=torch.Generator().manual_seed(0))


def made(hard=False, structure=STRUCTURE):
    torch.manual_seed(5)
    return NeuralTree(INPUTS, CLASSES, structure, hard).eval()


def linear(state, name, x):
    return state[f"{name}.weight"] @ x + state[f"{name}.bias"]


def ways(state, x):
    """The probability of each leaf of `STRUCTURE` and its distribution, by hand."""
    left = torch.sigmoid(linear(state, "root.router", x))
    deep = linear(state, "root.left.transform", x).relu()
    inner = torch.sigmoid(linear(state, "root.left.below.router", deep))
    deeper = linear(state, "root.left.below.right.transform", deep).relu()
    return [
        (left * inner, linear(state, "root.left.below.left.answer", deep).softmax(0)),
        (left * (1 - inner), linear(state, "root.left.below.right.below.answer", deeper).softmax(0)),
        (1 - left, linear(state, "root.right.answer", x).softmax(0)),
    ]


@torch.no_grad()
def test_the_answer_is_a_mean_over_leaves():
    tree, x = made(), rows(8)
    state = tree.state_dict()
    expected = [sum(share * said for share, said in ways(state, each)) for each in x]
    torch.testing.assert_close(tree(x).exp(), torch.stack(expected))


@torch.no_grad()
def test_a_hard_tree_goes_the_likelier_way_and_runs_nothing_else():
    tree, x = made(hard=True), rows(40)
    state, taken = tree.state_dict(), set()
    calls = []
    for leaf in (module for name, module in tree.named_modules() if name.endswith("answer")):
        leaf.register_forward_pre_hook(lambda module, inputs: calls.append(len(inputs[0])))
    found = tree(x)
    assert sum(calls) == 40  # each input meets one leaf
    for row, said in zip(x, found, strict=True):
        shares = ways(state, row)
        left = torch.sigmoid(linear(state, "root.router", row)) >= 0.5
        inner = shares[0][0] >= shares[1][0]
        leaf = (0 if inner else 1) if left else 2
        taken.add(leaf)
        torch.testing.assert_close(said.exp(), shares[leaf][1])
    assert taken == {0, 1, 2}
    torch.testing.assert_close(torch.cat([tree(row[None]) for row in x]), found)


class Net(nn.Module):
    def __init__(self, structure: str = STRUCTURE, hard: bool = True) -> None:
        super().__init__()
        self.head = NeuralTree(INPUTS, CLASSES, structure, hard)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(x.flatten(1))


@torch.no_grad()
def test_graphs_branch_at_routers():
    torch.manual_seed(1)
    network, x = PlainNetwork(Net(), (1, 1, INPUTS), CLASSES).eval(), rows(24).view(-1, 1, 1, INPUTS)
    model = to_onnx(network)
    assert "If" in {node.op_type for node in model.graph.node}
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, network(x).numpy(), rtol=1e-4, atol=1e-5)


def test_trees_grow_leaf_by_leaf_and_share_what_stands_at_one_place():
    assert grown("(.,t.)") == ["((.,.),t.)", "(t.,t.)", "(.,t(.,.))", "(.,tt.)"]
    structures = [".", *grown("."), *grown("(.,.)")]
    checked = check_space(Space.of(Net, structure=structures, hard=False), rows(3).view(3, 1, 1, INPUTS))
    assert any(name.endswith("router/weight") for name in checked.shapes)


@pytest.mark.parametrize("structure", ["", "t", "(.,.", "(.)", "..", "x", "(.,.)."])
def test_what_cannot_be_read_is_refused(structure):
    with pytest.raises(ValueError, match=r"NeuralTree: the structure is .*allowed: '\.' for a leaf"):
        NeuralTree(2, 2, structure)
