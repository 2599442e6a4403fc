"""Recurrent attention: the mask and the region by the paper's formulas, exits, graphs, the ranking loss."""

import numpy as np
import pytest
import torch
from support.contexts import executed
from support.runs import forward_of, loss_of, run_of
from torch import nn
from torch.nn import functional as F

from dynnas.nn import AttentionCrop, RecurrentAttention
from dynnas.nn.exits.exits import sureness
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.space import Space
from dynnas.testing.spaces import check_space
from dynnas.training.algorithms.exits.exit_ranking import ExitRanking

CLASSES = 3


@torch.no_grad()
def test_a_region_is_masked_cut_out_and_enlarged():
    """By masking the image as the paper does, at the places of the result."""
    torch.manual_seed(0)
    crop, x, features = AttentionCrop(4, (6, 5), least=0.4), torch.randn(3, 2, 12, 10), torch.randn(3, 4)
    found, regions = crop(x, features), crop.regions(features)
    for image in range(3):
        top, left, side = regions[image].tolist()
        assert 0.4 <= side <= 1
        assert 0 <= top <= 1 - side
        assert 0 <= left <= 1 - side
        for row in range(6):
            for column in range(5):
                y, x_place = (top + side * (row + 0.5) / 6) * 12, (left + side * (column + 0.5) / 5) * 10
                mask = 1.0
                for place, first, last in (
                    (y, 12 * top, 12 * (top + side)),
                    (x_place, 10 * left, 10 * (left + side)),
                ):
                    h = [1 / (1 + np.exp(-10 * (place - edge))) for edge in (first, last)]
                    mask *= float(h[0] - h[1])
                grid = torch.tensor([[[[2 * x_place / 10 - 1, 2 * y / 12 - 1]]]])
                pixel = F.grid_sample(x[image : image + 1], grid, padding_mode="border", align_corners=False)
                torch.testing.assert_close(
                    found[image, :, row, column], mask * pixel[0, :, 0, 0], rtol=1e-4, atol=1e-4
                )


def test_a_region_learns_by_its_border():
    """Only M has a gradient: that of moving the edges over the pixels that they are at."""
    torch.manual_seed(0)
    crop, x = AttentionCrop(4, (24, 24)).double(), torch.rand(1, 1, 12, 12, dtype=torch.double)
    features = torch.randn(1, 4, dtype=torch.double)
    region = crop.regions(features).detach()
    given = region.clone().requires_grad_()
    crop.regions = lambda _: given
    (gradient,) = torch.autograd.grad(crop(x, features).sum(), given)

    def border(places, start, side):
        return torch.sigmoid(120 * (places - start)) - torch.sigmoid(120 * (places - start - side))

    def with_edges(other):
        """The result where the mask alone belongs to another region."""
        steps, side = (torch.arange(24).double() + 0.5) / 24, region[0, 2]
        crop.regions = lambda _: region
        own = border(side * steps, 0, side)
        image = crop(x, features)[0, 0] / (own[:, None] * own)
        rows, columns = (border(region[0, at] + side * steps, other[0, at], other[0, 2]) for at in (0, 1))
        return (image * rows[:, None] * columns).sum()

    for at in range(3):
        moved = [region.clone() for _ in range(2)]
        moved[0][0, at] += 1e-6
        moved[1][0, at] -= 1e-6
        expected = (with_edges(moved[0]) - with_edges(moved[1])) / 2e-6
        torch.testing.assert_close(gradient[0, at], expected, rtol=1e-4, atol=1e-4)


class Features(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.conv(x)).flatten(2).amax(2)


class Net(nn.Module):
    def __init__(self, width: int = 4) -> None:
        super().__init__()
        networks = [Features(width) for _ in range(3)]
        self.look = RecurrentAttention(networks, [width] * 3, CLASSES, (1, 8, 8), size=(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        return self.look(x)


def undecided(x):
    torch.manual_seed(0)
    network = Net()
    with torch.no_grad():
        network.look.thresholds = tuple(
            float(sureness(output).median()) for output in network.train()(x)[:-1]
        )
    return PlainNetwork(network, (1, 8, 8), CLASSES).eval()


@torch.no_grad()
def test_images_leave_at_a_look_that_is_sure_and_graphs_branch():
    x = torch.randn(24, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    network = undecided(x)
    look = network.module.look
    outputs, seen = [], x
    for number, stage in enumerate(look.stages):
        seen = stage(seen.flatten(1) if number == 0 else seen)
        outputs.append(look.exits[str(number)](seen))
    sure = [sureness(output) for output in outputs]
    expected = torch.where((sure[1] >= look.thresholds[1])[:, None], outputs[1], outputs[2])
    expected = torch.where((sure[0] >= look.thresholds[0])[:, None], outputs[0], expected)
    torch.testing.assert_close(network(x), expected)
    torch.testing.assert_close(executed(network, "masked")(x), expected)
    runner = OnnxRunner(to_onnx(network).SerializeToString(), threads=1)
    answers = np.concatenate([runner(one[None].numpy()) for one in x])
    np.testing.assert_allclose(answers, expected.numpy(), rtol=1e-4, atol=1e-4)
    first, second, third = cost_of(network).exit_macs
    assert first == 9 * 4 * 36 + 4 * CLASSES
    closer = 4 * 3 + 4 * 36 + 9 * 4 * 16 + 4 * CLASSES
    assert (second - first, third - second) == (closer, closer)


def test_a_class_with_looks_is_a_space():
    check_space(Space.of(Net, width=[2, 4]), torch.randn(3, 1, 8, 8))


def test_a_later_look_is_to_be_better():
    labels = torch.tensor([0, 2, 1, 1])
    outputs = [torch.randn(4, CLASSES, generator=torch.Generator().manual_seed(n)) for n in range(3)]
    algorithm = ExitRanking(weight=0.5, margin=0.05)
    p = [output.softmax(1)[torch.arange(4), labels] for output in outputs]
    expected = F.cross_entropy(outputs[-1], labels)
    for image in range(4):
        for one, other in ((0, 1), (1, 2)):
            expected = expected + 0.5 * max(0.0, float(p[one][image] - p[other][image]) + 0.05) / 4
    torch.testing.assert_close(loss_of(run_of([algorithm], labels), forward_of(outputs)), expected)
    alone = loss_of(run_of([algorithm], labels), forward_of(outputs[-1:]))
    torch.testing.assert_close(alone, F.cross_entropy(outputs[-1], labels))


def test_what_makes_no_looks_is_refused():
    with pytest.raises(ValueError, match="AttentionCrop: least is 0; allowed: above 0"):
        AttentionCrop(4, (2, 2), least=0)
    with pytest.raises(ValueError, match="2 networks, features of 1"):
        RecurrentAttention([Features(2), Features(2)], [2], 3, (1, 8, 8))
