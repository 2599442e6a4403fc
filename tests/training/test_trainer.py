"""The trainer over a stranger's modules, loaders and algorithms; signals, checkpoints and messages."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from support.gated import gated_config
from support.interrupts import Interrupt
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from dynnas.errors import TrainingError
from dynnas.nn.context import Context, supplied, tracing
from dynnas.nn.exits.early_exits import EarlyExits
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.networks.network import build
from dynnas.space.space import Space
from dynnas.supernet.supernet import Supernet
from dynnas.tasks import Classification
from dynnas.training.algorithm import ALGORITHMS, Algorithm
from dynnas.training.checkpoint import CheckpointTimer, every_step, read_checkpoint
from dynnas.training.trainer import Trainer

IMAGES = torch.randn(48, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(48) % 4


def loader():
    return DataLoader(TensorDataset(IMAGES, LABELS), 16, shuffle=True)


class Mine(nn.Module):
    """A network as anyone would write it, with a block of dynnas inside that a gate decides on."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.inner = nn.ModuleDict({"block": build(dict(gated_config(("skip", "skip")).blocks)["stage1.1"])})
        self.head = nn.Linear(8, 4)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        y = self.inner["block"](torch.relu(self.stem(x)))
        return self.head(self.dropout(y.mean((2, 3))))


def mine(seed=0):
    torch.manual_seed(seed)
    return Mine()


def trainer_of(network, algorithms=("gate_learning", "gate_budget"), data=None, epochs=2, **more):
    return Trainer(
        network,
        Classification(4),
        loader() if data is None else data,
        algorithms=algorithms,
        optimizer=lambda module: torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9),
        epochs=epochs,
        **more,
    )


def weights(module):
    return torch.cat([value.flatten() for value in module.state_dict().values()])


def test_a_step_of_a_plain_module_is_torchs():
    """Without algorithms: cross entropy, its gradient, and SGD."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    reference = nn.Linear(192, 4)
    reference.load_state_dict(network[1].state_dict())
    data = [(IMAGES[:16], LABELS[:16]), (IMAGES[16:32], LABELS[16:32])]
    Trainer(network, Classification(4), data, optimizer=torch.optim.SGD(network.parameters(), lr=0.1)).fit()
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.1)
    for x, labels in data:
        optimizer.zero_grad()
        F.cross_entropy(reference(x.flatten(1)), labels).backward()
        optimizer.step()
    torch.testing.assert_close(network[1].weight, reference.weight)
    torch.testing.assert_close(network[1].bias, reference.bias)


def test_a_gate_inside_a_strangers_module_is_reached_and_heard():
    network = mine().eval()
    expected = network(IMAGES)
    with tracing(network, Decision) as trace:
        assert torch.equal(network(IMAGES), expected)
    (decision,) = trace.of(Decision)
    assert decision.usage.shape == (48, 2)
    with supplied(network, Context(GateMode(choice="all"))):
        run = network(IMAGES)
    plain = network.head(network.inner["block"].block(torch.relu(network.stem(IMAGES))).mean((2, 3)))
    assert torch.equal(run, plain)
    assert not any(module._forward_pre_hooks for module in network.modules())
    with pytest.raises(RuntimeError, match="stop"), tracing(network):
        raise RuntimeError("stop")
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_a_budget_keeps_a_gate_inside_a_strangers_module_to_its_target():
    network = mine()
    before = network.inner["block"].gate[0].expand.weight.clone()
    trainer_of(network).fit()
    assert not torch.equal(network.inner["block"].gate[0].expand.weight, before)
    closed, opened = (
        trainer_of(mine(), ["gate_learning", Budget(weight)], epochs=20, clip_norm=5.0)
        for weight in (0.0, 10.0)
    )
    shares = []
    for trainer in (closed, opened):
        trained = trainer.fit()
        with tracing(trained, Decision) as trace, torch.no_grad():
            trained.train()(IMAGES)
        shares.append(float(trace.of(Decision)[0].usage[:, 1].mean()))
    assert abs(shares[1] - 0.5) < 0.25  # the target is half of the block
    assert shares[0] > 0.8


def Budget(weight):  # noqa: N802
    return ALGORITHMS["gate_budget"](weight)


@dataclass(eq=False)
class Counting(Algorithm):
    """Counts steps, and keeps the count in the checkpoint."""

    name = "counting"

    steps: int = 0
    finished: bool = False

    def on_step(self, run):
        self.steps += 1

    def on_finish(self, run):
        self.finished = True

    def state_dict(self):
        return {"steps": self.steps}

    def load_state_dict(self, state):
        self.steps = state["steps"]


@pytest.mark.parametrize("stop", [1, 4])
def test_an_interrupted_training_over_a_loader_goes_on_to_the_same_weights(tmp_path, stop):
    """In the middle of an epoch, with an average of the weights, and an algorithm of a stranger's."""
    algorithms = ("ema", "gate_learning", "gate_budget")
    whole = trainer_of(mine(), [*algorithms, Counting()], folder=tmp_path / "whole").fit()
    with pytest.raises(KeyboardInterrupt):
        trainer_of(mine(), [*algorithms, Counting()], folder=tmp_path / "parts").fit(progress=Interrupt(stop))
    assert read_checkpoint(tmp_path / "parts").step == stop
    counting = Counting()
    trainer = trainer_of(mine(), [*algorithms, counting], folder=tmp_path / "parts")
    assert counting.steps == stop
    assert torch.equal(weights(trainer.fit()), weights(whole))
    assert (counting.steps, counting.finished) == (6, True)
    with pytest.raises(TrainingError, match="a training of another network, data set or settings"):
        trainer_of(mine(), ["gate_learning"], folder=tmp_path / "parts")


@dataclass(eq=False)
class Signal(Algorithm):
    """Sends a signal to this process in the middle of a step."""

    at: int = 1
    number: int = signal.SIGINT

    def penalty(self, run, forward):
        if run.step == self.at:
            signal.raise_signal(self.number)


@pytest.mark.parametrize(
    ("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
def test_a_signal_within_a_step_waits_for_its_end(tmp_path, number, error):
    before = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(error):
        trainer_of(mine(), [Signal(1, number)], folder=tmp_path).fit()
    assert read_checkpoint(tmp_path).step == 2
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == before
    whole = trainer_of(mine(), [Signal(-1)]).fit()
    assert torch.equal(weights(trainer_of(mine(), [Signal(-1)], folder=tmp_path).fit()), weights(whole))


TERMINATED = """
import sys
from itertools import pairwise
from pathlib import Path
sys.path[:0] = sys.argv[2].split(":")
import torch
torch.set_num_threads(1)
import test_trainer as t

class Told(t.Interrupt):
    def advance(self, steps=1, note=""):
        print("step", flush=True)

trainer = t.trainer_of(t.mine(), ["ema"], folder=Path(sys.argv[1]))
trainer.run.total = 10**6
trainer.fit(progress=Told(-1))
"""


def test_sigterm_of_a_process_saves_and_ends_it(tmp_path):
    here = Path(__file__).parent
    command = [sys.executable, "-c", TERMINATED, str(tmp_path), f"{here}{os.pathsep}{here.parent}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(3)]
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()
    assert process.returncode == 128 + signal.SIGTERM
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint is not None
    assert checkpoint.step == len(told) + rest.count("step")


def test_checkpoints_come_soon_then_rarely_and_never_cost_much():
    now = [0.0]
    timer, saved = CheckpointTimer(clock=lambda: now[0]), []

    def save(seconds):
        timer.save(lambda: now.__setitem__(0, now[0] + seconds))
        saved.append(now[0])

    while now[0] < 100:
        now[0] += 0.5
        if timer.due():
            save(0.01)
    assert saved[0] == pytest.approx(3, abs=0.1)
    gaps = [after - before for before, after in pairwise(saved)]
    assert gaps[0] == pytest.approx(3, abs=1)
    assert max(gaps) == pytest.approx(20, abs=1)
    assert gaps == pytest.approx(sorted(gaps))
    save(2.0)  # 2% of the time are 100 seconds
    now[0] += 99
    assert not timer.due()
    now[0] += 2
    assert timer.due()


def test_a_loss_that_is_not_a_number_is_one_message():
    network = mine()
    with torch.no_grad():
        network.head.weight.fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"the loss is nan at step 0; lower the learning rate .*0\.1"):
        trainer_of(network).fit()


def test_a_gradient_that_is_not_finite_is_one_message(tmp_path):
    @dataclass(eq=False)
    class Broken(Algorithm):
        def on_gradients(self, run):
            if run.step == 1:
                next(run.module.parameters()).grad.fill_(float("inf"))

    trainer = trainer_of(mine(), [Broken()], folder=tmp_path, timer=every_step())
    with pytest.raises(TrainingError, match=r"gradient is not finite at step 1;.*last good .* is kept"):
        trainer.fit()
    assert read_checkpoint(tmp_path).step == 1


def test_outputs_of_early_exits_learn_from_the_last():
    torch.manual_seed(0)
    stages = [nn.Sequential(nn.Flatten(), nn.Linear(192, 8)), nn.Linear(8, 8)]
    network = EarlyExits(stages, [nn.Linear(8, 4), nn.Linear(8, 4)])
    exit_weight = network.exits["0"].weight.clone()
    trainer_of(network, ["early_exits"]).fit()
    assert not torch.equal(network.exits["0"].weight, exit_weight)
    unchanged = EarlyExits(stages, [nn.Linear(8, 4), nn.Linear(8, 4)])
    exit_weight = unchanged.exits["0"].weight.clone()
    trainer_of(unchanged, []).fit()
    assert torch.equal(unchanged.exits["0"].weight, exit_weight)


def slim(width):
    """A stranger's class whose inner block is decided on, as a design space."""
    network = mine()
    network.stem = nn.Conv2d(3, width, 3, padding=1)
    network.widen = nn.Conv2d(width, 8, 1)
    return Slim(network)


class Slim(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.stem, self.widen, self.inner, self.head = (
            network.stem,
            network.widen,
            network.inner,
            network.head,
        )

    def forward(self, x):
        y = self.inner["block"](self.widen(torch.relu(self.stem(x))))
        return self.head(y.mean((2, 3)))


def test_a_strangers_supernet_is_trained_by_the_sandwich_rule():
    """One step by hand: the largest network without its gate teaches, and the gradients of both add up."""
    supernet = Supernet(Space.of(slim, width=[4, 6]), seed=0)
    large, small = (supernet.space.architecture({"width": width}) for width in (6, 4))
    start = {name: value.clone() for name, value in supernet.named_parameters()}
    context = Context(GateMode(estimator="straight", noise=0.0))
    opened = context.replace(GateMode(choice="all"))
    supernet.train()
    taught = supernet(large, IMAGES, context=opened)
    student = supernet(small, IMAGES, context=context)
    distilled = F.cross_entropy(student, taught.detach().softmax(1))
    loss = F.cross_entropy(taught, LABELS) + 0.5 * (distilled + F.cross_entropy(student, LABELS))
    gradients = torch.autograd.grad(loss, list(supernet.parameters()), allow_unused=True)
    learning = ALGORITHMS["gate_learning"]("straight", noise=0.0)
    Trainer(
        supernet,
        Classification(4),
        [(IMAGES, LABELS)],
        algorithms=["sandwich", "in_place_distillation", learning],
        optimizer=torch.optim.SGD(supernet.parameters(), lr=0.1),
    ).fit()
    for (name, value), gradient in zip(supernet.named_parameters(), gradients, strict=True):
        moved = start[name] - 0.1 * (0 if gradient is None else gradient)
        torch.testing.assert_close(value, moved, msg=name)


def test_gates_of_a_strangers_supernet_are_kept_to_their_budget():
    supernet = Supernet(Space.of(slim, width=[4, 6]), seed=0)
    before = {name: value.clone() for name, value in supernet.named_parameters() if "gate" in name}
    trainer_of(supernet, ["sandwich", "in_place_distillation", "gate_learning", "gate_budget"]).fit()
    after = dict(supernet.named_parameters())
    assert before
    assert any(not torch.equal(value, after[name]) for name, value in before.items())
    with pytest.raises(TrainingError, match="no algorithm says which networks of the supernet"):
        trainer_of(supernet, []).fit()


def test_what_makes_no_sense_says_so():
    with pytest.raises(TrainingError, match=r"unknown algorithm 'sandwhich' .did you mean 'sandwich'"):
        trainer_of(mine(), ["sandwhich"])
    with pytest.raises(TrainingError, match="two are called 'ema'"):
        trainer_of(mine(), ["ema", "ema"])
    with pytest.raises(TrainingError, match="the loader has no length"):
        trainer_of(mine(), [], data=iter([]))
    with pytest.raises(TrainingError, match="the loader has no batches"):
        trainer_of(mine(), [], data=[])

    class Short(list):
        def __len__(self):
            return 3

    with pytest.raises(TrainingError, match="ended after 1 of 3 batches"):
        trainer_of(mine(), [], data=Short([(IMAGES, LABELS)])).fit()


def test_inputs_may_lie_in_dicts():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(192, 4)

        def forward(self, inputs):
            return self.fc(inputs["a"].flatten(1) + inputs["b"].flatten(1))

    data = [({"a": IMAGES, "b": IMAGES}, LABELS)]
    network = Two()
    before = network.fc.weight.clone()
    trainer_of(network, [], data=data).fit()
    assert not torch.equal(network.fc.weight, before)
