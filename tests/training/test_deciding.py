"""What decisions are trained by: prices, semantic hashing and baselines; soft trees; by hand and loops."""

from types import SimpleNamespace

import pytest
import torch
from support.runs import forward_of, penalty_of, run_of
from torch import nn
from torch.nn import functional as F

from dynnas.nn import SoftDecisionTree
from dynnas.nn.context import Context, Trace, tracing
from dynnas.nn.gates.costs import GateCost
from dynnas.nn.gates.estimators import Chooser
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.trees.soft_tree import Paths
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet
from dynnas.training.algorithms.gates.lagrangian import GateLagrangian
from dynnas.training.algorithms.gates.reinforce import Reinforce
from dynnas.training.algorithms.tree_balance import TreeBalance

LABELS = torch.tensor([0, 1, 2, 0])
COSTS = (
    GateCost("a", ("skip", "run"), 0.5, (0, 100), 100),
    GateCost("b", ("skip", "run"), 0.25, (0, 200), 200),
)


def decisions(rows):
    """One decision a gate, from how much of its block each image runs."""
    found = []
    for run in rows:
        run = torch.as_tensor(run, dtype=torch.float32)
        found.append(Decision(torch.stack([1 - run, run], 1), torch.stack([1 - run, run], 1)))
    return found


def forward_with(*records, outputs=None, again=None):
    trace = Trace(*{type(each) for each in records})
    for each in records:
        trace.record(each)
    return forward_of([torch.zeros(4, 3) if outputs is None else outputs], trace, COSTS, again=again)


def test_the_price_follows_what_is_used_beyond_the_targets():
    algorithm = GateLagrangian(rate=0.5, restarts=False)
    run = run_of([algorithm], LABELS)
    more = forward_with(*decisions([[1, 1, 1, 1], [1, 0, 1, 0]]))  # 200 of the 100 that targets allow
    less = forward_with(*decisions([[0, 0, 0, 0], [0, 0, 1, 0]]))  # 50
    found = []
    for forward in (more, more, less, less, less, less):
        found.append((algorithm.price, float(penalty_of(run, forward))))
        algorithm.on_step(run)
    prices = [0, 0.5, 1, 0.75, 0.5, 0.25]
    assert found == [(p, p * e) for p, e in zip(prices, [1, 1, -0.5, -0.5, -0.5, -0.5], strict=True)]
    algorithm.restarts = True
    penalty_of(run, less)
    algorithm.on_step(run)
    assert algorithm.price == 0
    algorithm.load_state_dict({"price": 2.0})
    shares = algorithm.image_penalty(run, more)
    assert shares.tolist() == pytest.approx([2 * 2, 0, 2 * 2, 0])
    assert float(penalty_of(run, more)) == pytest.approx(float(shares.mean()))


def test_semantic_hashing_mixes_saturating_sigmoids_and_bits():
    """As tensor2tensor: 1.2 * sigmoid(v) - 0.1 cut to 0..1, or bits with its gradient."""
    logits = torch.randn(400, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    noise = {"draws": iter([torch.zeros(400, 2), torch.arange(400.0)[:, None] - 199.5])}
    mode = GateMode(estimator="semhash", sample=lambda draw, like: next(noise["draws"]))
    rows = Chooser().train()(logits, context=Context(mode))
    v = logits[:, 1] - logits[:, 0]
    soft = (1.2 * torch.sigmoid(v) - 0.1).clamp(0, 1)
    expected = torch.where(torch.arange(400) >= 200, soft, (v > 0).float())
    torch.testing.assert_close(rows[:, 1], expected)
    torch.testing.assert_close(rows.sum(1), torch.ones(400))
    weights = torch.randn(400, generator=torch.Generator().manual_seed(1))
    (found,) = torch.autograd.grad((rows[:, 1] * weights).sum(), logits, retain_graph=True)
    (soft_gradient,) = torch.autograd.grad((soft * weights).sum(), logits)
    torch.testing.assert_close(found, soft_gradient)
    hard = Chooser().train()(logits, context=Context(GateMode(estimator="semhash", noise=0.0)))
    assert {*hard.detach().flatten().tolist()} == {0, 1}


@pytest.mark.parametrize("baseline", ["others", "moving", "greedy", "none"])
def test_draws_are_held_against_a_baseline(baseline):
    likelihood = torch.zeros(4, requires_grad=True)
    (decision,) = decisions([[1, 0, 1, 0]])
    decision = Decision(decision.weights, decision.usage, likelihood=likelihood)
    outputs, greedy = torch.randn(4, 3), torch.randn(4, 3)
    algorithm = Reinforce(baseline=baseline)
    run = run_of([algorithm], LABELS)
    run.context = Context(GateMode(estimator="reinforce"))
    asked = []
    forward = forward_with(decision, outputs=outputs, again=lambda c: asked.append(c[GateMode]) or [greedy])
    forward.losses = losses = F.cross_entropy(outputs, LABELS, reduction="none")
    if baseline == "moving":
        algorithm.load_state_dict({"mean": 2.0})
    penalty_of(run, forward).backward()
    held = {
        "others": (losses.sum() - losses) / 3,
        "moving": torch.full((4,), 2.0),
        "greedy": F.cross_entropy(greedy, LABELS, reduction="none"),
        "none": torch.zeros(4),
    }[baseline]
    torch.testing.assert_close(likelihood.grad, (losses - held) / 4)
    assert [mode.estimator for mode in asked] == (["straight"] if baseline == "greedy" else [])
    if baseline == "moving":
        algorithm.on_step(run)
        assert algorithm.state_dict()["mean"] == pytest.approx(0.9 * 2 + 0.1 * float(losses.mean()))


def walk(tree, x, node=0):
    """The classes' probabilities below a node, by recursion."""
    inner = 2**tree.depth - 1
    if node >= inner:
        return tree.leaves[node - inner].softmax(0)
    right = torch.sigmoid(tree.decide.weight[node] @ x + tree.decide.bias[node])
    return (1 - right) * walk(tree, x, 2 * node + 1) + right * walk(tree, x, 2 * node + 2)


@torch.no_grad()
def test_a_soft_tree_is_a_mean_over_its_paths():
    torch.manual_seed(0)
    tree, x = SoftDecisionTree(5, 3, depth=3), torch.randn(6, 5)
    torch.testing.assert_close(tree(x).exp(), torch.stack([walk(tree, each) for each in x]))
    tree.decide.weight.mul_(1e6)
    tree.hard = True
    torch.testing.assert_close(tree.eval()(x).exp(), torch.stack([walk(tree, each) for each in x]))
    with pytest.raises(ValueError, match="depth is 0; allowed: 1 or more"):
        SoftDecisionTree(5, 3, depth=0)


def test_nodes_that_send_all_one_way_pay():
    tree, x = SoftDecisionTree(5, 3, depth=2), torch.randn(4, 5)
    with tracing(tree, Paths) as trace:
        tree(x)
    (paths,) = trace.of(Paths)
    right = torch.sigmoid(tree.decide(x))
    reached = torch.stack([torch.ones(4), 1 - right[:, 0], right[:, 0]], 1)
    expected = 0.0
    for node, level in ((0, 0), (1, 1), (2, 1)):
        share = (reached[:, node] * right[:, node]).sum() / reached[:, node].sum()
        expected = expected - 0.1 * 0.5**level * 0.5 * (share.log() + (1 - share).log())
    run = run_of([TreeBalance()], LABELS)
    torch.testing.assert_close(penalty_of(run, forward_with(paths)), expected)
    assert penalty_of(run, forward_with(SimpleNamespace())) == 0


class Net(nn.Module):
    def __init__(self, depth):
        super().__init__()
        self.head = SoftDecisionTree(5, 3, depth)

    def forward(self, x):
        return self.head(x)


def test_trees_of_other_depths_share_their_upper_levels():
    supernet, x = Supernet(Space.of(Net, depth=[1, 3])).eval(), torch.randn(2, 5)
    small, large = (supernet.extract({"depth": depth}) for depth in (1, 3))
    torch.testing.assert_close(small(x), supernet({"depth": 1}, x), rtol=0, atol=0)
    torch.testing.assert_close(small.head.decide.weight, large.head.decide.weight[:1])
