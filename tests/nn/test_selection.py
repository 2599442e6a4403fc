"""Patches and frames: what is chosen, by loops; the gradient of noisy top-k, against differences; graphs."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dynnas.nn import FrameSelection, PatchSelection
from dynnas.nn.context import Context, supplied
from dynnas.nn.gates.mode import GateMode
from dynnas.nn.regions.top_k import perturbed_top_k
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.testing.spaces import check_space


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.double)


def test_noisy_indicators_are_means_over_draws():
    scores, draws = noise(3, 5), noise(3, 7, 5, seed=1)
    found = perturbed_top_k(scores, 2, draws, 0.5)
    for image in range(3):
        expected = torch.zeros(2, 5, dtype=torch.double)
        for draw in draws[image]:
            noisy = (scores[image] + 0.5 * draw).tolist()
            places = sorted(sorted(range(5), key=noisy.__getitem__)[-2:])
            for row, place in enumerate(places):
                expected[row, place] += 1 / 7
        torch.testing.assert_close(found[image], expected)


def test_the_gradient_is_that_of_the_mean_over_all_noise():
    """Of two scores the larger is chosen with probability P((s_0 - s_1) > sigma sqrt(2) z)."""
    scores = torch.tensor([[0.3, 0.1]], dtype=torch.double, requires_grad=True)
    sigma = 0.5
    indicators = perturbed_top_k(scores, 1, noise(1, 200_000, 2), sigma)
    spread = sigma * 2**0.5
    normal = torch.distributions.Normal(0.0, 1.0)
    chosen = normal.cdf(torch.tensor(0.2 / spread))
    torch.testing.assert_close(indicators[0, 0, 0].float(), chosen, atol=0.01, rtol=0)
    (gradient,) = torch.autograd.grad(indicators[0, 0, 0], scores)
    density = float(normal.log_prob(torch.tensor(0.2 / spread)).exp()) / spread
    torch.testing.assert_close(gradient[0], torch.tensor([density, -density]).double(), atol=0.02, rtol=0)


class Scorer(nn.Module):
    """Looks at means of 4x4 pixels."""

    def __init__(self, channels: int = 2) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(F.avg_pool2d(x, 4))


@torch.no_grad()
def test_the_best_patches_are_cut_out():
    layer, x = PatchSelection(Scorer(), patch=6, count=3).eval(), torch.randn(4, 2, 8, 12)
    found, scores = layer(x), layer.scorer(x)
    padded = F.pad(x, (1, 1, 1, 1))
    for image in range(4):
        places = sorted(scores[image].flatten().topk(3).indices.tolist())
        for number, place in enumerate(places):
            top, left = place // 3 * 4, place % 3 * 4
            expected = padded[image, :, top : top + 6, left : left + 6]
            torch.testing.assert_close(found[image, number], expected, rtol=0, atol=0)


@torch.no_grad()
def test_without_noise_training_sees_what_evaluation_does():
    layer, x = PatchSelection(Scorer(), patch=6, count=3, draws=4), torch.randn(4, 2, 8, 12)
    frames, clip = FrameSelection(nn.Linear(5, 1), count=2, draws=4), torch.randn(3, 6, 5)
    quiet = Context(GateMode(sample=lambda draw, like: torch.zeros_like(like)))
    for module, given in ((layer, x), (frames, clip)):
        with supplied(module, quiet):
            torch.testing.assert_close(module.train()(given), module.eval()(given))


@torch.no_grad()
def test_the_best_frames_are_kept_in_order():
    layer, x = FrameSelection(nn.Linear(5, 1), count=2).eval(), torch.randn(3, 6, 5)
    for clip, found in zip(x, layer(x), strict=True):
        places = sorted(layer.scorer(clip)[:, 0].topk(2).indices.tolist())
        torch.testing.assert_close(found, clip[places], rtol=0, atol=0)


def test_the_scorer_learns_by_what_is_chosen():
    torch.manual_seed(0)
    for module, x in (
        (PatchSelection(Scorer(), patch=4, count=2), torch.randn(2, 2, 8, 8)),
        (FrameSelection(nn.Sequential(nn.Flatten(), nn.Linear(12, 1)), count=2), torch.randn(2, 5, 3, 4)),
    ):
        module.train()(x).square().sum().backward()
        gradients = [value.grad for value in module.scorer.parameters()]
        assert bool(gradients[0].abs().sum() > 0)


class Net(nn.Module):
    def __init__(self, width: int = 3, count: int = 2) -> None:
        super().__init__()
        self.look = PatchSelection(Scorer(), patch=6, count=count)
        self.conv, self.head = nn.Conv2d(2, width, 3), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        patches = self.look(x)
        seen = torch.relu(self.conv(patches.flatten(0, 1))).mean((2, 3))
        return self.head(seen.unflatten(0, patches.shape[:2]).mean(1))


@torch.no_grad()
def test_graphs_take_the_same_patches_and_classes_are_spaces():
    torch.manual_seed(0)
    network, x = PlainNetwork(Net(), (2, 8, 12), 3).eval(), torch.randn(6, 2, 8, 12)
    runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, network(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_class_with_patches_is_a_space():
    check_space(Space.of(Net, width=[2, 3], count=[1, 2]), torch.randn(3, 2, 8, 12))


def test_what_cannot_be_chosen_is_one_message():
    with pytest.raises(ValueError, match=r"count is 0, draws 100, sigma 0.05"):
        FrameSelection(nn.Linear(1, 1), count=0)
    with pytest.raises(ValueError, match="patch is 0; allowed: 1 or more"):
        PatchSelection(Scorer(), patch=0, count=1)
    with pytest.raises(ValueError, match="FrameSelection: 3 of 2 parts are to be chosen"):
        FrameSelection(nn.Linear(1, 1), count=3)(torch.zeros(1, 2, 1))
    with pytest.raises(ValueError, match="allowed: a whole number of pixels for each place"):
        PatchSelection(Scorer(), patch=3, count=1)(torch.zeros(1, 2, 8, 8))
