"""Exits that learn to stop: probabilities by all outcomes, the best distribution, graphs, and a training."""

from itertools import product

import numpy as np
import pytest
import torch
from support.contexts import executed
from support.networks import config, finished, images
from support.runs import forward_of, penalty_of, run_of
from torch import nn

from dynnas.language.parser import parse_space
from dynnas.nn import PolicyExits
from dynnas.nn.context import Context, Trace, supplied, tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import leave
from dynnas.nn.exits.policy_exits import log_stops
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.moves import largest
from dynnas.space.space import Space
from dynnas.supernet.staged import staged_supernet
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.testing.spaces import check_space
from dynnas.training.algorithms.exits.exit_policy import ExitPolicy, best_stops
from dynnas.training.models import model_of
from dynnas.training.trainer import Trainer

CLASSES = 3


def test_probabilities_of_leaving_are_those_of_all_outcomes():
    logits = torch.randn(4, 3)
    stop, expected = logits.sigmoid(), torch.zeros(4, 4)
    for outcome in product((0, 1), repeat=3):
        chance = torch.ones(4)
        for number, stops in enumerate(outcome):
            chance = chance * (stop[:, number] if stops else 1 - stop[:, number])
        expected[:, outcome.index(1) if 1 in outcome else 3] += chance
    torch.testing.assert_close(log_stops(logits).exp(), expected)


def test_policies_that_learn_find_the_least_mean_loss_and_price():
    """Without a gradient that knows it: no other probabilities on a grid are better."""
    losses, prices, temperature = torch.rand(1, 3), torch.tensor([0.1, 0.3, 0.5]), 0.4

    def objective(stops):
        found = stops.clamp(min=1e-9)
        return (found * (losses + prices)).sum(1) + temperature * (found * found.log()).sum(1)

    best = best_stops(losses, prices, temperature)
    logits = torch.zeros(1, 2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], line_search_fn="strong_wolfe", max_iter=100)

    def closure():
        optimizer.zero_grad()
        loss = -(best * log_stops(logits)).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    learned = log_stops(logits).exp().detach()
    steps = torch.linspace(0, 1, 101)
    grid = torch.cartesian_prod(steps, steps)
    grid = torch.stack(
        [grid[:, 0], (1 - grid[:, 0]) * grid[:, 1], (1 - grid[:, 0]) * (1 - grid[:, 1])], dim=1
    )
    assert float(objective(learned)) <= float(objective(grid).min()) + 1e-5
    torch.testing.assert_close(learned, grid[objective(grid).argmin()][None], rtol=0, atol=0.02)


class Net(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        stages = [nn.Sequential(nn.Flatten(), nn.Linear(12, width), nn.Tanh())]
        stages += [nn.Sequential(nn.Linear(width, width), nn.Tanh()) for _ in range(2)]
        exits = [nn.Linear(width, CLASSES) for _ in stages]
        self.body = PolicyExits(stages, exits, CLASSES)

    def forward(self, x):
        return self.body(x)


def lively():
    torch.manual_seed(0)
    module = Net()
    with torch.no_grad():
        for value in module.parameters():
            value.mul_(2)
        for at in ("0", "1"):
            policy = module.body.exits[at].policy
            policy.say.weight.normal_(0, 10)
            policy.say.bias.fill_(-float(policy.say(torch.relu(policy.see(torch.full((1, 3), 0.5))))))
    return PlainNetwork(module, (1, 3, 4), CLASSES).eval()


@torch.no_grad()
def test_images_leave_where_a_policy_stops_and_graphs_branch():
    network, x = lively(), torch.randn(40, 1, 3, 4, generator=torch.Generator().manual_seed(1))
    body, task = network.module.body, Classification(("a", "b", "c"))
    seen, expected, taken = x, torch.zeros(40, CLASSES), torch.full((40,), -1)
    for at, stage in enumerate(body.stages):
        seen = stage(seen)
        judged = body.exits[str(at)]
        answer = judged.exit(seen)
        stops = torch.ones(40, dtype=torch.bool)
        if at < 2:
            hidden = torch.relu(judged.policy.see(task.doubt(answer)))
            stops = judged.policy.say(hidden)[:, 0].sigmoid() >= 0.5
        leaves = stops & (taken < 0)
        expected[leaves], taken[leaves] = answer[leaves], at
    assert {*taken.tolist()} == {0, 1, 2}
    with tracing(network, Left) as trace:
        torch.testing.assert_close(network(x), expected)
    assert trace.of(Left)[0].taken.tolist() == taken.tolist()
    torch.testing.assert_close(executed(network, "masked")(x), expected)
    model = to_onnx(network)
    assert "If" in {node.op_type for node in model.graph.node}
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, expected.numpy(), rtol=1e-4, atol=1e-5)
    stage, exit, policy = 8 * 8, 8 * CLASSES, 3 * 16 + 16
    first = 12 * 8 + exit + policy
    assert cost_of(network).exit_macs == (
        first,
        first + stage + exit + policy,
        first + 2 * (stage + exit) + policy,
    )


def test_a_class_with_policies_is_a_space():
    space = Space.of(Net, width=[4, 8])
    check_space(space, torch.randn(3, 1, 3, 4))
    supernet, x = Supernet(space), torch.randn(3, 1, 3, 4)
    for values in ({"width": 4}, {"width": 8}):
        counted = cost_of(PlainNetwork(supernet.extract(values), (1, 3, 4), CLASSES).eval()).exit_macs
        assert tuple(model_of(supernet).exit_macs(space.architecture(values), x)) == counted


def halves(count, seed):
    """Rows whose class is the sign of a large first number, or of a small one times that of the second."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 1, 1, 2, generator=generator).sign()
    hard = torch.arange(count) % 2 == 1
    x[~hard, 0, 0, 0] *= 4
    x += 0.1 * torch.randn(x.shape, generator=generator)
    first, second = x[:, 0, 0, 0] > 0, x[:, 0, 0, 1] > 0
    return x, torch.where(hard, first == second, first).long(), hard


class TwoLooks(nn.Module):
    """A linear classifier, which cannot tell the second kind, and one with hidden units."""

    def __init__(self):
        super().__init__()
        stages = [nn.Flatten(), nn.Sequential(nn.Linear(2, 64), nn.ReLU())]
        self.body = PolicyExits(stages, [nn.Linear(2, 2), nn.Linear(64, 2)], 2)

    def forward(self, x):
        return self.body(x)


def left_early(price):
    """The shares of easy and hard rows that leave early, and that are told, after a training."""
    torch.manual_seed(0)
    network, (x, labels, _) = TwoLooks(), halves(512, seed=0)
    batches = [(x[at : at + 64], labels[at : at + 64]) for at in range(0, 512, 64)]
    recipe = ["early_exits", ExitPolicy(price=price)]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    Trainer(network, Classification(2), batches, algorithms=recipe, optimizer=optimizer, epochs=30).fit()
    x, labels, hard = halves(400, seed=1)
    with tracing(network, Left) as trace, torch.no_grad():
        right = (network(x).argmax(1) == labels).double()
    early = (trace.of(Left)[0].taken == 0).double()
    return float(early[~hard].mean()), float(early[hard].mean()), float(right.mean())


def test_easy_rows_learn_to_leave_and_a_price_makes_all_leave():
    easy, hard, right = left_early(price=0.3)
    assert easy > 0.9
    assert hard < 0.1
    assert right > 0.95
    assert left_early(price=5.0)[:2] == (1.0, 1.0)


SPACE = """
input: {channels: 2, classes: 4, resolutions: 8}
stem: {width: 4}
stages: [{depth: 1, width: [4, 6], block: dwsep}, {depth: 1, width: 6, block: dwsep}]
exits: {positions: stage1, count: 1, thresholds: 0.5, width: [4, 8], criterion: [confidence, policy]}
"""


def test_exits_of_space_files_have_policies():
    space = parse_space(SPACE)
    supernet = staged_supernet(space, 2, 4)
    architecture = largest(space)
    assert architecture["exits.criterion"] == "policy"
    x, labels = torch.randn(16, 2, 8, 8), torch.arange(16) % 4
    batches = [(x, labels)]
    before = {name: value.clone() for name, value in supernet.named_parameters()}
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.1)
    recipe = ["sandwich", "early_exits", "exit_policy"]
    Trainer(supernet, Classification(4), batches, algorithms=recipe, optimizer=optimizer, epochs=3).fit()
    moved = {name for name, value in supernet.named_parameters() if not torch.equal(value, before[name])}
    assert any("gate/see" in name for name in moved)
    macs = model_of(supernet).exit_macs(architecture, x)
    assert tuple(macs) == cost_of(supernet.extract(architecture).eval()).exit_macs


def test_policies_disturb_nothing_else():
    torch.manual_seed(0)
    network = Net().train()
    trace = Trace()
    with supplied(network, Context(trace=trace)):
        outputs = network(torch.randn(8, 1, 3, 4))
    run = run_of([ExitPolicy()], torch.arange(8) % CLASSES, model=network)
    run.inputs = torch.randn(8, 1, 3, 4)
    penalty_of(run, forward_of(list(outputs), trace)).backward()
    learning = {
        name for name, value in network.named_parameters() if value.grad is not None and value.grad.any()
    }
    assert learning
    assert all(".policy." in name for name in learning)


@torch.no_grad()
def test_a_staged_network_with_policies_is_a_graph():
    network, batch = finished(config(exits=2, criterion="policy")), images(8)
    runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    found = [runner.outputs(one[None].numpy()) for one in batch]
    logits, exits = leave(network.logits(batch), network.config.exits)
    assert [int(each["exit"][0]) for each in found] == exits.tolist()
    np.testing.assert_allclose(
        np.concatenate([each["logits"] for each in found]), logits, rtol=1e-4, atol=1e-5
    )


def test_a_last_exit_is_needed():
    with pytest.raises(ValueError, match="1 stages and 1 exits"):
        PolicyExits([nn.Identity()], [None], 2)
