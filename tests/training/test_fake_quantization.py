"""Fake quantisation: torch rounds as the graph in int8 does, and a network learns to live with it."""

import copy
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from support.interrupts import Interrupt
from support.networks import config, finished, images
from support.runs import run_of
from support.small_study import small_space
from torch import nn
from torch.nn import functional as F

from dynnas.data.load import load_data
from dynnas.errors import TrainingError
from dynnas.metrics.accuracy import accuracy
from dynnas.nn.layers.digest import weights_digest
from dynnas.nn.layers.resize import resize
from dynnas.runtimes.artifact import ONNX_MODEL, Artifact
from dynnas.runtimes.folding import fold_batchnorm
from dynnas.runtimes.onnx.int8.quantization import to_int8_onnx
from dynnas.settings.settings import DataSettings, TrainSettings
from dynnas.study.scores import artifact_scores
from dynnas.supernet.staged import staged_supernet
from dynnas.training.algorithms.fake_quantization import (
    FakeQuantization,
    FakeQuantizer,
    map_scale,
    rounded_kernel,
    rounded_map,
)
from dynnas.training.checkpoint import read_checkpoint
from dynnas.training.recipe import Recipe
from dynnas.training.train_network import fresh_network, train_alone

STATIC = {
    "convolutions": config("conv"),
    "an activation in float32": config("conv", activation="hswish"),
    "additions": config("basic"),
    "attentions in float32": config("mbconv", attention="se"),
    "joined channels": config("fire"),
    "an exit": config("conv", exits=1),
}


def logits_in_int8(network, ranges, batch):
    """The logits of the graph in int8, each operation as the graph says it, and the step between two."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = to_int8_onnx(network, ranges).SerializeToString()
    session = onnxruntime.InferenceSession(model, options)
    return np.concatenate([session.run(["logits"], {"image": image[None].numpy()})[0] for image in batch])


@torch.no_grad()
def logits_rounded(network, ranges, batch):
    """What fake quantisation says, and the step between two of its logits."""
    quantizer = FakeQuantizer(network)
    with quantizer.rounding("extremes"):
        plain = network(ranges)
    assert torch.equal(plain, network(ranges))
    found = {place: extremes.clone() for place, extremes in quantizer.ranges.items()}
    with quantizer.rounding():
        logits = network(batch).numpy()
    assert quantizer.ranges.keys() == found.keys()
    assert all(torch.equal(found[place], kept) for place, kept in quantizer.ranges.items())
    classifier = next(place for place in reversed(found) if place.startswith("head/"))
    return logits, float(map_scale(found[classifier])[0])


@pytest.mark.parametrize("kind", STATIC)
def test_rounded_outputs_are_those_of_the_graph(kind):
    """The norms are folded, as a graph rounds a bias as well, and a norm has none before it is folded."""
    network = fold_batchnorm(finished(STATIC[kind]))
    ranges, batch = images(64, seed=1), images(40, seed=2)
    ours, step = logits_rounded(network, ranges, batch)
    theirs = logits_in_int8(network, ranges, batch)
    steps = np.abs(ours - theirs) / step
    assert steps.max() < 1.01  # a sum that lies between two steps may be rounded either way
    assert (steps < 0.01).mean() > 0.98
    with torch.no_grad():
        unrounded = network(batch).numpy()
    assert np.abs(unrounded - theirs).mean() > 0.1 * step
    assert (np.abs(unrounded - theirs) / step < 0.01).mean() < 0.1


def test_a_norm_that_is_not_folded_rounds_the_same():
    """But for the biases, which are rounded to a far smaller step."""
    network = finished(config("conv"))
    ranges, batch = images(64, seed=1), images(40, seed=2)
    ours, step = logits_rounded(network, ranges, batch)
    theirs, _ = logits_rounded(fold_batchnorm(network), ranges, batch)
    assert np.abs(ours - theirs).max() < 2.01 * step
    kernel, scale = torch.randn(6, 4, 3, 3), torch.rand(6, 1, 1, 1) + 0.1
    torch.testing.assert_close(rounded_kernel(kernel * scale), rounded_kernel(kernel) * scale)


def test_kernels_and_maps_are_rounded_to_whole_numbers_of_their_scale():
    kernel = torch.tensor([[[[1.27, -0.644]]], [[[0.127, 0.0644]]]])  # scales 0.01 and 0.001
    expected = torch.tensor([[[[1.27, -0.64]]], [[[0.127, 0.064]]]])
    torch.testing.assert_close(rounded_kernel(kernel), expected)
    extremes = torch.tensor([-0.5, 2.05])  # 255 steps of 0.01, of which 50 are below 0
    x = torch.tensor([-1.0, -0.004, 0.0, 0.006, 1.234, 3.0])
    torch.testing.assert_close(rounded_map(x, extremes), torch.tensor([-0.5, 0.0, 0.0, 0.01, 1.23, 2.05]))


def test_gradients_pass_the_rounding_and_stop_out_of_range():
    x = torch.tensor([-1.0, 0.004, 1.234, 3.0], requires_grad=True)
    rounded_map(x, torch.tensor([-0.5, 2.05])).sum().backward()
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
    convolution = nn.Conv2d(2, 3, 3)
    batch = images(4)
    quantizer = FakeQuantizer(convolution)
    with quantizer.rounding("extremes"):
        convolution(batch)
    quantizer.ranges["/2"] *= 2  # rounded kernels may give more than real ones
    with quantizer.rounding():
        convolution(batch).sum().backward()
    taken = rounded_map(batch, quantizer.ranges["/1"])
    expected = F.conv2d(taken, convolution.weight, convolution.bias).sum()
    (gradient,) = torch.autograd.grad(expected, convolution.weight)
    torch.testing.assert_close(convolution.weight.grad, gradient)


def test_ranges_are_moving_averages():
    convolution = nn.Conv2d(2, 3, 3)
    quantizer = FakeQuantizer(convolution)
    for factor in (1.0, 3.0):
        with quantizer.rounding("averages", momentum=0.75):
            convolution(factor * images(4))
    low, high = torch.aminmax(images(4))
    torch.testing.assert_close(quantizer.ranges["/1"], 1.5 * torch.stack([low, high]))


def test_what_is_mixed_for_each_image_is_left_in_float32():
    network = finished(config("conv", "condconv"))
    quantizer = FakeQuantizer(network)
    with quantizer.rounding("extremes"), torch.no_grad():
        network(images(8))
    assert quantizer.kernels == {
        "slots.stem.conv.weight",
        "slots.head.widen.conv.weight",
        "slots.head.classifier.weight",
    }


def test_a_supernet_is_refused(tmp_path):
    supernet = staged_supernet(small_space(tmp_path), channels=1, classes=10)
    with pytest.raises(TrainingError, match=r"trains one network, and this is a supernet.*--pass qat"):
        run_of([FakeQuantization()], model=supernet)


TRAIN = TrainSettings(epochs=20, batch=64, lr=0.1, calibration_images=128, layout="channels_first")
FRESH = Recipe(TRAIN, start="scratch", ema=0.9)
TUNING = Recipe(replace(TRAIN, epochs=6, lr=0.005), ema=0.9)


@pytest.fixture(scope="module")
def dataset():
    return load_data(DataSettings(train_images=1200))


def for_digits(seed=0):
    made = replace(config("mbconv", width=2), channels=1, classes=10, resolution=8)
    stem, head = replace(made.stem, in_channels=1), replace(made.head, classes=10)
    return fresh_network(replace(made, stem=stem, head=head), seed)


@torch.no_grad()
def with_uneven_channels(network, factor=200.0):
    """The same function, but one channel of each depthwise convolution leaves the others few steps.

    Trained networks have such channels (Nagel et al. 2019, arXiv:1906.04721, section 3).
    """
    made = copy.deepcopy(network)
    for name, block in made.slots.items():
        if name.startswith("stage"):
            norm = block.depthwise.norm
            norm.weight[0] *= factor
            norm.bias[0] *= factor
            block.project.conv.weight[:, 0] /= factor
    return made


def accuracy_in_int8(network, dataset):
    chosen = resize(dataset.calibration_images(128, 0), network.config.shape[1:])
    files = {"model.onnx": to_int8_onnx(network, chosen).SerializeToString()}
    artifact = Artifact(files, "model.onnx", ONNX_MODEL, "onnxruntime_portable")
    return artifact_scores(artifact, network, dataset)["accuracy"]


def test_tuning_with_it_saves_what_int8_loses(dataset, tmp_path):
    """Compared with the same tuning without it, from the same weights and seeds."""
    trained = train_alone(for_digits(), dataset, FRESH, tmp_path / "fresh")
    uneven = with_uneven_channels(trained)
    float32 = accuracy(trained, dataset).top1
    assert accuracy(uneven, dataset).top1 == pytest.approx(float32, abs=0.01)
    tuned = {
        name: train_alone(copy.deepcopy(uneven), dataset, TUNING, tmp_path / name, algorithms=algorithms)
        for name, algorithms in {"without": [], "with": [FakeQuantization()]}.items()
    }
    found = {name: accuracy_in_int8(network, dataset) for name, network in tuned.items()}
    assert float32 > 0.9
    assert accuracy_in_int8(uneven, dataset) < float32 - 0.2
    assert found["without"] < float32 - 0.1
    assert found["with"] > found["without"] + 0.1
    kernel = tuned["with"].slots["stage1__0"].expand.conv.weight
    torch.testing.assert_close(rounded_kernel(kernel), kernel, rtol=1e-5, atol=1e-7)
    assert all(len(channel.unique()) < 256 for channel in kernel)


def test_an_interrupted_tuning_ends_with_the_same_weights(dataset, tmp_path):
    recipe = replace(TUNING, train=replace(TUNING.train, epochs=2))

    def tuned(name, **more):
        algorithms = [FakeQuantization()]
        return train_alone(for_digits(), dataset, recipe, tmp_path / name, algorithms=algorithms, **more)

    with pytest.raises(KeyboardInterrupt):
        tuned("halves", progress=Interrupt(12))
    ranges = read_checkpoint(tmp_path / "halves").algorithms["fake_quantization"]["ranges"]
    assert "head/1" in ranges
    assert weights_digest(tuned("halves")) == weights_digest(tuned("whole"))
