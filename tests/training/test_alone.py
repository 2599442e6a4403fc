"""Training of one network: its mathematics against torch's own, and resumption to the same weights."""

import copy
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch
from support.interrupts import Interrupt
from support.networks import config
from support.runs import run_of
from torch import nn
from torch.nn import functional as F

from dynnas.data.load import load_data
from dynnas.errors import TrainingError
from dynnas.nn.layers.digest import weights_digest
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.tasks.builtin.classification import Classification
from dynnas.training.algorithms.binary_weights import BinaryWeights, binary_kernels
from dynnas.training.algorithms.ema import Ema
from dynnas.training.algorithms.ternary_weights import TernaryWeights
from dynnas.training.checkpoint import read_checkpoint
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network, train_alone
from dynnas.training.weights.files import load_network, save_network

TRAIN = TrainSettings(epochs=3, batch=64, lr=0.1, calibration_images=128, layout="channels_first")
RECIPE = Recipe(TRAIN, start="scratch", ema=0.9)


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=512))


def small(exits=1, op="condconv", seed=0):
    """A network for the digits."""
    made = replace(config("mbconv", op, exits), channels=1, classes=10, resolution=8)
    stem, head = replace(made.stem, in_channels=1), replace(made.head, classes=10)
    places = tuple(replace(place, config=replace(place.config, classes=10)) for place in made.exits)
    return fresh_network(replace(made, stem=stem, head=head, exits=places), seed)


def teacher():
    return small(exits=0, op="static", seed=5).eval()


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_distillation_pulls_as_torchs_divergence_does(temperature):
    logits, taught = torch.randn(2, 6, 10, dtype=torch.float64)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    distillation = Classification().distill
    distillation(ours, taught, temperature).mean().backward()
    divergence = nn.KLDivLoss(reduction="batchmean", log_target=True)
    loss = temperature**2 * divergence(
        F.log_softmax(theirs / temperature, 1), F.log_softmax(taught / temperature, 1)
    )
    loss.backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    entropy = torch.distributions.Categorical(logits=taught / temperature).entropy().mean()
    torch.testing.assert_close(
        distillation(logits, taught, temperature).mean(), loss.detach() + temperature**2 * entropy
    )


def test_the_decay_of_the_average_is_warmed_up():
    """By hand: (1 + t) / (10 + t) until that reaches the decay."""
    model = nn.Linear(4, 3)
    ema = Ema(decay=0.5)
    run = run_of([ema], model=model)
    expected = model.weight.detach().clone()
    for step in range(30):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        run.step = step
        ema.on_step(run)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    ema.on_finish(run)
    torch.testing.assert_close(model.weight, expected)


def test_the_first_weights_are_soon_forgotten():
    model = nn.Linear(1, 1, bias=False)
    ema = Ema(decay=0.999)
    with torch.no_grad():
        model.weight.fill_(100.0)
    run = run_of([ema], model=model)
    with torch.no_grad():
        model.weight.fill_(1.0)
    for step in range(100):
        run.step = step
        ema.on_step(run)
    assert abs(ema.state_dict()["weight"].item() - 1) < 1e-3


def trained(folder, dataset, recipe=RECIPE, progress=None, network=None, timer=None, algorithms=()):
    network = network or small()
    algorithms = [*algorithms, *([BinaryWeights()] if recipe.weights == "binary" else [])]
    return train_alone(
        network,
        dataset,
        recipe,
        folder,
        teacher=teacher(),
        algorithms=algorithms,
        progress=progress,
        timer=timer,
    )


@pytest.fixture(scope="module")
def uninterrupted(dataset, tmp_path_factory):
    return weights_digest(trained(tmp_path_factory.mktemp("whole"), dataset))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("stop", [3, 8, 13])
def test_resumed_training_ends_with_the_same_weights(dataset, tmp_path, uninterrupted, stop):
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path, dataset, progress=Interrupt(stop))
    assert weights_digest(trained(tmp_path, dataset)) == uninterrupted


SCRIPT = """
import sys, pathlib, torch
sys.path[:0] = sys.argv[2].split(":")
torch.set_num_threads(1)
import test_alone as t
from dynnas.training.checkpoint import every_step
data = t.load_data(t.DataSettings(train_images=512))
t.trained(pathlib.Path(sys.argv[1]), data, t.RECIPE, timer=every_step())
"""


@pytest.mark.slow
def test_killed_training_ends_with_the_same_weights(dataset, tmp_path, uninterrupted):
    """kill -9 of a real process, after its first checkpoint."""
    here = os.path.dirname(__file__)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), f"{here}:{os.path.dirname(here)}"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (tmp_path / "checkpoint.pt").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, process.stderr.read().decode()
    process.stderr.close()
    assert read_checkpoint(tmp_path).step < 24
    assert weights_digest(trained(tmp_path, dataset)) == uninterrupted


def test_training_learns_and_a_second_call_only_loads(dataset, tmp_path):
    recipe = replace(RECIPE, teacher="none", train=replace(TRAIN, epochs=6, lr=0.4))
    network = train_alone(small(), dataset, recipe, tmp_path)
    losses = read_checkpoint(tmp_path).losses
    assert losses[-1] < losses[0] - 0.4
    assert not network.training
    again = train_alone(small(), dataset, recipe, tmp_path, progress=Interrupt(1))
    assert weights_digest(again) == weights_digest(network)


def test_training_of_another_network_is_refused(dataset, tmp_path):
    trained(tmp_path, dataset)
    with pytest.raises(TrainingError, match="another network, data set or settings"):
        trained(tmp_path, dataset, network=small(seed=1))


def test_without_an_average_the_last_weights_ship(dataset, tmp_path):
    network = trained(tmp_path, dataset, replace(RECIPE, ema=0.0))
    last = read_checkpoint(tmp_path).model
    for name, value in network.named_parameters():
        torch.testing.assert_close(value, last[name], rtol=0, atol=0)


def test_binary_weights_are_signs_and_the_real_ones_move_on(dataset, tmp_path):
    network = trained(tmp_path, dataset, replace(RECIPE, weights="binary"))
    kernels = binary_kernels(network)
    assert len(kernels) > 5
    assert all(set(kernel.detach().unique().tolist()) == {-1.0, 1.0} for kernel in kernels)
    assert network.slots["stem"].conv.weight.unique().numel() > 2
    real = read_checkpoint(tmp_path).model["slots.stage1__0.expand.conv.weight"]
    assert real.unique().numel() > 2
    assert real.abs().max() <= 1


def test_a_binary_step_is_that_of_the_paper(dataset):
    """The gradient at sign(w) moves w, which is then clipped: by hand with plain SGD."""
    network = small(exits=0, op="static")
    kernel = network.slots["stage1__0"].expand.conv.weight
    signed = copy.deepcopy(network)
    with torch.no_grad():
        for other in binary_kernels(signed):
            other.copy_(other.sign())
    images, labels = dataset.train_batch(0, 0, 0, 64)
    torch.manual_seed(0)  # of the head's dropout
    F.cross_entropy(signed.train()(images), labels).backward()
    gradient = signed.slots["stage1__0"].expand.conv.weight.grad
    expected = (kernel - 10 * gradient).clamp(-1, 1)
    binary = BinaryWeights()
    run = run_of([binary], model=network)
    torch.manual_seed(0)
    with binary.weights(run):
        F.cross_entropy(network.train()(images), labels).backward()
    torch.optim.SGD(network.parameters(), lr=10).step()
    binary.on_step(run)
    torch.testing.assert_close(kernel, expected)
    assert (expected.abs() == 1).any()


def test_ternary_weights_are_two_numbers_and_zero(dataset, tmp_path):
    recipe = replace(RECIPE, ema=0.0)
    folder = tmp_path / "whole"
    network = trained(folder, dataset, recipe, algorithms=[TernaryWeights(lr=0.05)])
    kernels, kept = binary_kernels(network), read_checkpoint(folder).algorithms["ternary_weights"]
    for kernel, (above, below) in zip(kernels, kept["scales"], strict=True):
        assert set(kernel.detach().unique().tolist()) == {-float(below), 0.0, float(above)}
        assert (float(above), float(below)) != (1.0, 1.0)
    assert network.slots["stem"].conv.weight.unique().numel() > 3
    assert read_checkpoint(folder).model["slots.stage1__0.expand.conv.weight"].unique().numel() > 3


def test_a_ternary_step_is_that_of_the_paper(dataset):
    """By autograd: p * [w > d] - n * [w < -d], and the gradient of w times p, n or 1."""
    network = small(exits=0, op="static")
    name = "slots.stage1__0.expand.conv.weight"
    kernel = network.get_parameter(name)
    ternary = TernaryWeights(threshold=0.3, lr=0.1)
    run = run_of([ternary], model=network)
    with torch.no_grad():
        ternary.scales[:, 0], ternary.scales[:, 1] = 1.5, 0.5
    images, labels = dataset.train_batch(0, 0, 0, 64)
    numbers, values, expected = [], dict(network.named_parameters()), {}
    for other in ternary.kernels:
        bound = 0.3 * other.detach().abs().max()
        pair = torch.tensor([1.5, 0.5], requires_grad=True)
        numbers.append(pair)
        (found,) = (key for key, value in values.items() if value is other)
        expected[found] = (other > bound) * pair[0] - (other < -bound) * pair[1]
    torch.manual_seed(0)  # of the head's dropout
    output = torch.func.functional_call(network.train(), {**values, **expected}, (images,))
    wanted = torch.autograd.grad(F.cross_entropy(output, labels), [*numbers, expected[name]])
    torch.manual_seed(0)
    with ternary.weights(run):
        F.cross_entropy(network.train()(images), labels).backward()
    ternary.on_gradients(run)
    torch.testing.assert_close(ternary.scales.grad, torch.stack(wanted[:-1]))
    bound = 0.3 * kernel.detach().abs().max()
    factor = torch.where(kernel > bound, 1.5, torch.where(kernel < -bound, 0.5, 1.0))
    torch.testing.assert_close(kernel.grad, wanted[-1] * factor)
    ternary.on_step(run)
    first = torch.tensor([1.5, 0.5]) - 0.1 * torch.stack(wanted[:-1]).sign()  # Adam's first step
    torch.testing.assert_close(ternary.scales.detach(), first, atol=1e-4, rtol=0)


def test_kept_networks_are_loaded_again_or_refused(tmp_path):
    network = small().eval()
    path, digest = save_network(network, tmp_path), weights_digest(network)
    loaded = load_network(path, digest)
    assert loaded.config == network.config
    assert weights_digest(loaded) == digest
    with pytest.raises(TrainingError, match="found weights"):
        load_network(path, "0" * 16)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(TrainingError, match="no readable network"):
        load_network(path, digest)
    with pytest.raises(TrainingError, match="no readable network"):
        load_network(tmp_path / "missing.pt", digest)
