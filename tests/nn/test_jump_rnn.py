"""Jumps in sequences: by a loop, real execution, graphs, costs, and the policy gradient by all its draws."""

from itertools import product

import numpy as np
import pytest
import torch
from support.contexts import executed
from support.runs import forward_of, penalty_of, run_of
from torch import nn

from dynnas.errors import SpaceError
from dynnas.nn import JumpRNN
from dynnas.nn.context import Context, Trace, supplied, tracing
from dynnas.nn.exits.early_exits import Left
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

STEPS, INPUTS, UNITS, CLASSES = 12, 5, 4, 3


class Jumping(nn.Module):
    def __init__(self, units=UNITS, cell="gru", read=2, jump=3, jumps=3):
        super().__init__()
        self.read = JumpRNN(INPUTS, units, steps=STEPS, read=read, jump=jump, jumps=jumps, cell=cell)
        self.head = nn.Linear(units, CLASSES)

    def forward(self, x):
        return self.head(self.read(x[:, 0]))


def rows(count):
    return torch.randn(count, 1, STEPS, INPUTS, generator=torch.Generator().manual_seed(1))


def lively(**choices):
    """Sequences differ in their jumps."""
    torch.manual_seed(4)
    network = Jumping(**choices)
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(3)
        policy = network.read.stages[0].policy["jump"]
        policy.weight.mul_(5)
        policy.bias.zero_()
    return network.eval()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@torch.no_grad()
def test_sequences_are_read_and_jumped_over_as_in_the_paper(cell):
    network, x = lively(cell=cell), rows(40)
    stage = network.read.stages[0]
    inner, policy = stage.cell.cells[cell], stage.policy["jump"]
    expected, taken, ends, lengths = [], [], set(), set()
    for sequence in x[:, 0]:
        state, memory, at = torch.zeros(1, UNITS), torch.zeros(1, UNITS), 0
        for number in range(4):
            for token in sequence[at : at + 2]:
                if cell == "gru":
                    state = inner(token[None], state)
                else:
                    state, memory = inner(token[None], (state, memory))
            jump = int(policy(state).argmax())
            lengths.add(jump)
            at += 2 - 1 + jump
            if jump == 0 or at >= STEPS or number == 3:
                ends.add("stop" if jump == 0 else "end" if at >= STEPS else "jumps")
                break
        expected.append(state)
        taken.append(number)
    assert len(lengths) > 2
    assert {"stop", "jumps"} <= ends
    with tracing(network, Left) as trace:
        torch.testing.assert_close(network.read(x[:, 0]), torch.cat(expected))
    assert trace.of(Left)[0].taken.tolist() == taken


def test_the_end_of_a_sequence_is_read_once():
    """Jumps of the longest kind, with the last reading half behind the end."""
    layer = JumpRNN(1, 2, steps=5, read=2, jump=2, jumps=4, cell="gru").eval()
    with torch.no_grad():
        layer.stages[0].policy["jump"].bias.copy_(torch.tensor([0.0, 0.0, 1e3]))
        x = torch.randn(3, 5, 1)
        state = torch.zeros(3, 2)
        for step in (0, 1, 3, 4):
            state = layer.stages[0].cell.cells["gru"](x[:, step], state)
        torch.testing.assert_close(layer(x), state)
        layer = JumpRNN(1, 2, steps=4, read=3, jump=1, jumps=4, cell="gru").eval()
        layer.stages[0].policy["jump"].bias.copy_(torch.tensor([0.0, 1e3]))
        full = nn.GRU(1, 2, batch_first=True)
        full.load_state_dict({
            f"{name}_l0": value for name, value in layer.stages[0].cell.cells["gru"].state_dict().items()
        })  # fmt: skip
        torch.testing.assert_close(layer(x[:, :4]), full(x[:, :4])[1][0])


@torch.no_grad()
def test_real_execution_and_the_graph_answer_as_the_masked_network_and_costs_are_those_of_readings():
    network, x = PlainNetwork(lively(), (1, STEPS, INPUTS), CLASSES).eval(), rows(24)
    masked = executed(network, "masked")(x)
    torch.testing.assert_close(executed(network, "real")(x), masked)
    model = to_onnx(network)
    assert "If" in {node.op_type for node in model.graph.node}
    runner = OnnxRunner(model.SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, masked.numpy(), rtol=1e-4, atol=1e-5)
    reading, jump, head = 2 * 3 * UNITS * (INPUTS + UNITS), 4 * UNITS, UNITS * CLASSES
    expected = [number * (reading + jump) + head for number in (1, 2, 3)]
    assert cost_of(network).exit_macs == (*expected, 4 * reading + 3 * jump + head)


def test_a_class_with_jumps_is_a_space():
    space = Space.of(Jumping, units=[4, 6], cell=["gru", "lstm"], read=[1, 2], jump=[2, 3], jumps=[1, 3])
    check_space(space, torch.randn(3, 1, STEPS, INPUTS))


def test_the_policy_gradient_is_that_of_the_mean_reward():
    """By running all jumps that a sequence can take."""
    torch.manual_seed(0)
    steps, jumps, price = 5, 3, 0.6
    layer = JumpRNN(2, 3, steps=steps, read=1, jump=2, jumps=jumps, cell="gru").double().train()
    head, x = nn.Linear(3, CLASSES).double(), torch.randn(1, steps, 2, dtype=torch.double)
    found = exact = 0.0
    parameters, rewards, met = list(layer.parameters()), set(), set()
    for drawn in product(range(3), repeat=jumps):
        forced = [nn.functional.one_hot(torch.tensor([each]), 3) * 1e9 for each in drawn]
        trace = Trace(Draw)
        mode = GateMode(sample=lambda draw, like, forced=forced: forced.pop(0))
        with supplied(layer, Context(mode, trace=trace)):
            output = head(layer(x))
        draws = trace.of(Draw)
        path = tuple(choice for choice, draw in zip(drawn, draws, strict=True) if float(draw.drawn))
        if path in met:
            continue  # the same: what is drawn after the stop does not count
        met.add(path)
        chance = sum(draw.likelihood for draw in draws).exp()
        algorithm = PolicyGradient(baseline=0.0, price=price)
        loss = penalty_of(run_of([algorithm], torch.tensor([1])), forward_of([output], trace))
        on = sum(choice > 0 for choice in path)
        reward = float(output.argmax(1) == 1) - price * on / (jumps + 1)
        rewards.add(reward)
        found, exact = found + chance.detach() * loss, exact - chance * reward
    assert len(rewards) > 3
    own, expected = (
        torch.autograd.grad(value.sum(), parameters, retain_graph=True, materialize_grads=True)
        for value in (found, exact)
    )
    for one, other in zip(own, expected, strict=True):
        torch.testing.assert_close(one, other)
    # Weight and bias of the logits: the state does not learn by rewards.
    assert sum(float(each.abs().max()) > 1e-3 for each in expected) == 2


def pointers(count, seed, length=8, classes=4):
    """The first number says where the answer stands (the paper's section 4.1): one-hot, (B, length, ...)."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(classes, (count, length), generator=generator)
    where = torch.randint(1, length, (count,), generator=generator)
    targets = numbers.gather(1, where[:, None])[:, 0]
    x = nn.functional.one_hot(numbers, classes + length).float()
    x[:, 0] = nn.functional.one_hot(where + classes, classes + length).float()
    return x, targets


class Pointing(nn.Module):
    def __init__(self):
        super().__init__()
        self.read = JumpRNN(12, 24, steps=8, read=1, jump=7, jumps=1)
        self.head = nn.Linear(24, 4)

    def forward(self, x):
        return self.head(self.read(x))


def test_it_learns_to_jump_to_the_answer():
    torch.manual_seed(0)
    network, (x, targets) = Pointing(), pointers(512, seed=0)
    batches = [(x[at : at + 64], targets[at : at + 64]) for at in range(0, 512, 64)]
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    task = Classification(4)
    recipe = ["policy_gradient"]
    Trainer(network, task, batches, algorithms=recipe, optimizer=optimizer, epochs=40).fit()
    x, targets = pointers(400, seed=1)
    with torch.no_grad():
        assert float((network(x).argmax(1) == targets).double().mean()) > 0.95  # by two of eight steps


def test_what_cannot_be_jumped_is_refused():
    with pytest.raises(SpaceError, match="JumpRNN: steps is 4, read 1, jump 0, jumps 5; allowed: 1 or more"):
        JumpRNN(1, 2, steps=4, jump=0)
