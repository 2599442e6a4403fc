"""Skipped updates and exits in time: equations by loops, real execution, graphs, costs and sharing."""

import numpy as np
import pytest
import torch
from support.contexts import executed
from torch import nn

from dynnas.errors import SpaceError
from dynnas.nn import ExitInTime, FrameSelection, SkipRNN
from dynnas.nn.context import tracing
from dynnas.nn.exits.early_exits import Left
from dynnas.nn.exits.exits import sureness
from dynnas.nn.gates.gate import Decision
from dynnas.nn.networks.gate_use import GateUse
from dynnas.runtimes.compile import compile_network
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.training.trainer import Trainer

STEPS, INPUTS, UNITS, CLASSES = 6, 5, 4, 3


def rows(count, seed=0):
    return torch.randn(count, 1, STEPS, INPUTS, generator=torch.Generator().manual_seed(seed))


class Skipping(nn.Module):
    def __init__(self, units=UNITS, cell="gru"):
        super().__init__()
        self.read = SkipRNN(INPUTS, units, cell)
        self.head = nn.Linear(units, CLASSES)

    def forward(self, x):
        return self.head(self.read(x[:, 0])[:, -1])


class Leaving(nn.Module):
    def __init__(self, units=UNITS, cell="gru"):
        super().__init__()
        self.read = ExitInTime(INPUTS, units, CLASSES, steps=STEPS, every=2, cell=cell)

    def forward(self, x):
        return self.read(x[:, 0])


def lively(module):
    """Sequences differ in what they leave out."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))))
        if isinstance(module, Skipping):
            module.read.skip.gate[0].bias.fill_(-0.5)
        else:
            sure = [sureness(output).median().item() for output in module.train()(rows(64))]
            module.read.thresholds = tuple(sure[:-1])
    return module.eval()


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@torch.no_grad()
def test_skipped_updates_follow_the_equations(cell):
    module = lively(Skipping(cell=cell))
    read, inner = module.read, module.read.skip.cell.cells[cell]
    (gate,) = module.read.skip.gate
    for image in rows(8)[:, 0]:
        state, due, expected, updates = torch.zeros(1, UNITS), torch.ones(1, 1), [], 0
        memory = torch.zeros(1, UNITS)
        for x in image:
            u = float(due > 0.5)
            if u and cell == "gru":
                state = inner(x[None], state)
            elif u:
                state, memory = inner(x[None], (state, memory))
            d = torch.sigmoid(gate(state))
            due = u * d + (1 - u) * (due + torch.minimum(d, 1 - due))
            expected.append(state)
            updates += u
        torch.testing.assert_close(read(image[None])[0], torch.cat(expected))
        with tracing(module, Decision) as trace:
            module(image[None, None])
        assert 1 + sum(int(each.choice[0, 1]) for each in trace.of(Decision)) == updates


@pytest.mark.parametrize("made", [Skipping, Leaving])
@torch.no_grad()
def test_real_execution_and_the_graph_answer_as_the_masked_network(made):
    network = PlainNetwork(lively(made()), (1, STEPS, INPUTS), CLASSES).eval()
    x = rows(24)
    masked = executed(network, "masked")(x)
    torch.testing.assert_close(executed(network, "real")(x), masked)
    runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, masked.numpy(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_costs_are_those_of_the_steps_that_are_run():
    network = PlainNetwork(lively(Skipping()), (1, STEPS, INPUTS), CLASSES).eval()
    with tracing(network, Decision) as trace:
        network(rows(16))
    decided = trace.of(Decision)
    size = cost_of(network)
    used = GateUse.of(size, torch.zeros(16, dtype=torch.int64), decided)
    updates = 1 + torch.stack([each.choice[:, 1] for each in decided]).sum(0)
    step = 3 * UNITS * (INPUTS + UNITS) + UNITS  # the cell, and how due the next update is
    assert used.image_macs == tuple((updates * step + UNITS * CLASSES).tolist())
    assert len({*used.image_macs}) > 1
    assert next(iter(used.shares.values()))["run"] == pytest.approx(
        float((updates - 1).double().mean()) / (STEPS - 1)
    )


@torch.no_grad()
def test_a_sequence_leaves_where_it_is_sure_and_reads_no_further():
    network = lively(Leaving())
    with tracing(network, Left) as trace:
        answers = network(rows(24))
    taken = trace.of(Left)[0].taken
    assert {*taken.tolist()} == {0, 1, 2}
    cell, head = network.read.stages[0].cell.cells["gru"], network.read.exits["0"].linear
    for image, left, answer in zip(rows(24)[:, 0], taken.tolist(), answers, strict=True):
        state = torch.zeros(1, UNITS)
        for x in image[: 2 * (left + 1)]:
            state = cell(x[None], state)
        torch.testing.assert_close(head(state)[0], answer)
    size = cost_of(PlainNetwork(network, (1, STEPS, INPUTS), CLASSES).eval())
    stretch = 2 * 3 * UNITS * (INPUTS + UNITS) + UNITS * CLASSES
    assert size.exit_macs == (stretch, 2 * stretch, 3 * stretch)


@pytest.mark.parametrize("made", [Skipping, Leaving])
def test_a_supernet_shares_the_cells_gate_by_gate(made):
    supernet = Supernet(Space.of(made, units=[4, 8], cell=["gru", "lstm"])).eval()
    x = rows(3)
    for values in ({"units": 4, "cell": "gru"}, {"units": 8, "cell": "lstm"}):
        torch.testing.assert_close(supernet.extract(values)(x), supernet(values, x), rtol=0, atol=0)
    names = [name for name, _ in supernet.named_parameters() if "weight_ih" in name]
    small, large = (supernet.extract({"units": units, "cell": "gru"}) for units in (4, 8))
    weights = [next(v for n, v in each.named_parameters() if "weight_ih" in n) for each in (small, large)]
    torch.testing.assert_close(weights[0], weights[1].view(3, 8, INPUTS)[:, :4].reshape(12, INPUTS))
    assert len(names) == 2  # one for each cell, however often it is called


def test_updates_are_kept_to_their_target():
    torch.manual_seed(0)
    module = Skipping()
    data = [(rows(16, seed), torch.arange(16) % CLASSES) for seed in range(2)]
    recipe = ["gate_budget"]
    optimizer = torch.optim.Adam(module.parameters(), lr=0.05)
    Trainer(module, Classification(CLASSES), data, algorithms=recipe, optimizer=optimizer, epochs=30).fit()
    with tracing(module.eval(), Decision) as trace, torch.no_grad():
        module(rows(64, 9))
    shares = torch.stack([each.usage[:, 1] for each in trace.of(Decision)])
    assert 0.3 < float(shares.mean()) < 0.7


def test_what_cannot_be_read_is_one_message():
    with pytest.raises(SpaceError, match="recurrent cell: found 'rnn'; allowed: gru, lstm"):
        SkipRNN(3, 4, "rnn")
    with pytest.raises(SpaceError, match="steps is 4 and every is 0; allowed: 1 or more"):
        ExitInTime(3, 4, 2, steps=4, every=0)


class Choosing(Skipping):
    """Skips updates of what a scorer has chosen, whose number of steps the graph computes."""

    def __init__(self):
        super().__init__()
        self.select = FrameSelection(nn.Linear(INPUTS, 1), count=4)

    def forward(self, x):
        return self.head(self.read(self.select(x[:, 0]))[:, -1])


@torch.no_grad()
def test_graphs_branch_on_values_of_unknown_shape():
    network, x = PlainNetwork(lively(Choosing()), (1, STEPS, INPUTS), CLASSES).eval(), rows(8)
    runner = OnnxRunner(compile_network(network, TargetSettings()).data, threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, network(x).numpy(), rtol=1e-4, atol=1e-5)
