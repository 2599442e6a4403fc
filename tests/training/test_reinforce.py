"""REINFORCE against the exact gradient, by running every decision that a batch can take."""

import math
from dataclasses import replace
from itertools import product

import pytest
import torch
from support import networks
from support.contexts import running
from support.gated import gated_config
from support.runs import forward_of, loss_of, penalty_of, run_of
from torch import nn

from dynnas.data.load import load_data
from dynnas.nn.context import PLAIN, Context, tracing
from dynnas.nn.gates.costs import gate_costs
from dynnas.nn.gates.estimators import LEAST_NOISE, Chooser
from dynnas.nn.gates.gate import Decision
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.layers.digest import weights_digest
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.training.algorithms.exits.early_exits import EarlyExits
from dynnas.training.algorithms.gates.budget import GateBudget, budget_loss, budget_shares
from dynnas.training.algorithms.gates.learning import GateLearning
from dynnas.training.algorithms.gates.reinforce import Reinforce
from dynnas.training.algorithms.gates.sparsity import GateSparsity, easiness, use_of_easy
from dynnas.training.algorithms.label_smoothing import LabelSmoothing
from dynnas.training.distributed.ranks import Batch, Ranks
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network, train_alone

WEIGHT, SPARSITY = 3.0, 2.0
BOUNDS, PLACE = 0.4, 2 / math.pi * math.acos(0.4**0.5)
"""Of the budget, at this part of the training."""
LABELS = torch.tensor([0, 3])
IMAGES = 2
BATCH = Batch(Ranks(), IMAGES)
EASY_AS = torch.tensor([[0.0, 0, 0, 0, 0], [0, 0, 0, 3, 0]])
"""What the head says of the images, as far as gates are told how easy they are."""

ACTIONS = (2, 4)  # of the first gate and of the second


class Forced:
    """In the place of noise: so much for one alternative of each image that it is drawn, gate after gate."""

    def __init__(self):
        self.rows = []

    def __call__(self, draw, logits):
        return 1e9 * nn.functional.one_hot(self.rows.pop(0), logits.shape[1]).to(logits)


FORCED = Forced()


@pytest.fixture(scope="module")
def network():
    """Trained for nothing, in float64; its gates draw, and no image sees another in a batch norm."""
    found = networks.finished(gated_config(("skip", "width"), exits=1)).double()
    for part in found.modules():
        part.training = isinstance(part, Chooser)
    return running(found, GateMode(estimator="reinforce", temperature=1.3, noise=0.8, sample=FORCED))


def drawn(network, rows):
    """What becomes of the images, and the decisions, if these are drawn: a row of images for each gate."""
    FORCED.rows = [torch.tensor(own) for own in rows]
    with tracing(network, Decision) as trace:
        outputs = network.logits(networks.images(IMAGES, seed=3).double())
    found = [decision.choice.int().argmax(1).tolist() for decision in trace.of(Decision)]
    assert found == [list(own) for own in rows]
    run = run_of([LabelSmoothing(0.1), EarlyExits(0.5)], LABELS)
    forward = forward_of(list(outputs), trace, gate_costs(network.config))
    loss_of(run, forward)
    return forward


def gradient(network, loss):
    parameters = list(network.parameters())
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    both = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in both])


def test_the_mean_over_draws_is_the_exact_gradient(network):
    """Of the loss and of the budget, which is not linear: for all parameters, of gates and blocks."""
    exact = of_draws = of_blocks = torch.zeros(()).double()
    draws, costs = 0, gate_costs(network.config)
    run = run_of([GateBudget(WEIGHT), GateSparsity(SPARSITY), Reinforce()], LABELS, total=1, step=PLACE)
    for rows in product(*(product(range(number), repeat=IMAGES) for number in ACTIONS)):
        forward = drawn(network, rows)
        found = forward.trace.of(Decision)
        chance = sum(decision.likelihood for decision in found).sum().exp()
        budget = WEIGHT * budget_loss(costs, found, BOUNDS, BATCH).double()
        easy = easiness(nn.functional.cross_entropy(EASY_AS, LABELS, reduction="none"), BATCH)
        used = use_of_easy(costs, found, easy).double()
        assert used[1] > used[0] == 0  # the second image is easy
        value = budget + SPARSITY * used.mean()
        exact = exact + chance * (forward.losses.mean() + value)
        told = forward_of([EASY_AS], forward.trace, costs)
        told.losses = forward.losses
        gates = penalty_of(run, told)
        torch.testing.assert_close(gates.detach(), value.detach(), check_dtype=False)
        of_draws = of_draws + chance.detach() * gates
        of_blocks = of_blocks + chance.detach() * forward.losses.mean()
        draws += 1
    assert draws == 2**2 * 4**2
    expected, own = gradient(network, exact), gradient(network, of_draws)
    torch.testing.assert_close(own + gradient(network, of_blocks), expected, rtol=1e-4, atol=1e-6)
    assert float(own.norm()) > 0.1 * float(expected.norm())  # the blocks' own part alone would not do


def test_draws_follow_the_policy_whose_likelihood_is_told():
    chooser = Chooser().train()
    logits = torch.tensor([[0.0, 1.0, 2.0]]).expand(20_000, 3).requires_grad_()
    for noise, used in ((1.0, 1.0), (0.7, 0.7), (0.0, LEAST_NOISE)):
        context = Context(GateMode(estimator="reinforce", temperature=1.5, noise=noise))
        torch.manual_seed(0)
        rows = chooser(logits, context=context)
        policy = (logits[0].detach() / (1.5 * used)).softmax(0)
        torch.testing.assert_close(rows.mean(0), policy, rtol=0, atol=0.015)
        torch.testing.assert_close(chooser.likelihood(logits, rows, context), policy.log()[rows.argmax(1)])
        assert not rows.requires_grad
    assert chooser.eval().likelihood(logits, rows, context) is None


def test_an_image_is_told_what_it_adds_to_the_budget(network):
    """Against the loss of a batch of the other images, taken apart by hand."""
    found = drawn(network, ((0, 1), (3, 1))).trace.of(Decision)
    costs = gate_costs(network.config)
    whole, *others = (
        budget_loss(costs, [decision.of(torch.tensor(rows)) for decision in found], 0.4, Batch(Ranks(), size))
        for rows, size in (([0, 1], 2), ([1], 1), ([0], 1))
    )
    expected = 2 * torch.stack([whole - other for other in others])
    torch.testing.assert_close(budget_shares(costs, found, 0.4, BATCH), expected)


def test_the_last_epochs_learn_so():
    def estimators(**settings):
        runs = [run_of(total=50, steps_per_epoch=10, step=step) for step in range(50)]
        return [GateLearning(**settings).context(run, PLAIN)[GateMode].estimator for run in runs]

    assert estimators(estimator="straight", reinforce_epochs=1.5) == ["straight"] * 35 + ["reinforce"] * 15
    assert set(estimators()) == {"gumbel"}
    assert set(estimators(estimator="reinforce")) == {"reinforce"}


def test_a_resumed_training_goes_on_by_reinforce_to_the_same_weights(tmp_path):
    made = replace(gated_config(("skip", "width")), channels=1, classes=10, resolution=8)
    config = replace(
        made, stem=replace(made.stem, in_channels=1), head=replace(made.head, classes=10), exits=()
    )
    dataset = load_data(DataSettings(train_images=256))
    train = TrainSettings(
        epochs=3,
        batch=64,
        lr=0.1,
        calibration_images=128,
        layout="channels_first",
        algorithms={"gate_learning": {"reinforce_epochs": 2}},
    )
    recipe = Recipe(train, start="scratch", ema=0.9)
    digests = []
    for name, stop in (("whole", None), ("parts", 2)):
        if stop:
            train_alone(fresh_network(config, 0), dataset, recipe, tmp_path / name, until=stop)
        found = train_alone(fresh_network(config, 0), dataset, recipe, tmp_path / name)
        digests.append(weights_digest(found))
    assert digests[0] == digests[1]
    never = replace(recipe, train=replace(train, algorithms={}))
    other = train_alone(fresh_network(config, 0), dataset, never, tmp_path / "never")
    assert weights_digest(other) != digests[0]
