"""PointRend: against a loop over pixels, what it costs, and where it looks again."""

import pytest
import torch
from torch.nn import functional as F

from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.config.choice import Choice
from dynnas.nn.heads.pointrend import PointRend, uncertainty
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.registry import HEADS
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.testing.conformance import lively

CHANNELS, STRIDES, CLASSES = (5, 6, 8), (4, 8, 16), 3


def made(points=10, layers=2, channels=CHANNELS, strides=STRIDES):
    kind = Choice.of("pointrend", neck=4, finest=4, points=points, layers=layers)
    head = HEADS["pointrend"](MapHeadConfig(kind, channels, strides, CLASSES))
    assert isinstance(head, PointRend)
    return lively(head).eval()


def maps_of(batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    sizes = ((12, 8), (6, 4), (3, 2))
    return [
        torch.randn(batch, c, *size, generator=generator) for c, size in zip(CHANNELS, sizes, strict=True)
    ]


@torch.no_grad()
def test_uncertain_pixels_are_told_again_one_by_one():
    head, maps = made(points=20), maps_of()
    (lateral,) = head.coarse.values()
    coarse = head.classifier(head.body(lateral(maps[-1])))
    y = coarse
    ((first, second, last),) = head.points.values()
    for size in ((6, 4), (12, 8)):
        y = F.interpolate(y, size, mode="bilinear", align_corners=False)
        height, width = size
        told = -(-height * width * 20 // 100)
        for image in range(2):
            two = y[image].flatten(1).sort(dim=0, descending=True).values[:2]
            places = (two[0] - two[1]).sort().indices[:told].tolist()
            for place in places:
                row, column = divmod(place, width)
                at = torch.tensor([[[[(2 * column + 1) / width - 1, (2 * row + 1) / height - 1]]]])
                fine, said = (
                    F.grid_sample(
                        x[image : image + 1], at, padding_mode="border", align_corners=False
                    ).flatten()
                    for x in (maps[0], coarse)
                )
                hidden = first(torch.cat([said, fine])).relu()
                hidden = second(torch.cat([said, hidden])).relu()
                y[image, :, row, column] = last(torch.cat([said, hidden]))
    torch.testing.assert_close(head(maps), y, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_points_of_the_finest_map_are_read_as_they_are():
    """At the size of the map, interpolation is exact: all pixels told again are a pointwise network."""
    head, maps = made(points=100, layers=1), maps_of()
    (lateral,) = head.coarse.values()
    coarse = head.classifier(head.body(lateral(maps[-1])))
    said = F.interpolate(coarse, (12, 8), mode="bilinear", align_corners=False)
    ((first, last),) = head.points.values()
    pixels = [x.flatten(2).transpose(1, 2) for x in (maps[0], said)]
    hidden = first(torch.cat([pixels[1], pixels[0]], 2)).relu()
    expected = last(torch.cat([pixels[1], hidden], 2)).transpose(1, 2).unflatten(2, (12, 8))
    torch.testing.assert_close(head(maps), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_it_costs_by_its_points():
    def macs(points):
        return count_macs(made(points, layers=1), maps_of(1))[1]

    point = (CLASSES + 5) * 4 + (CLASSES + 4) * CLASSES + 4 * (CLASSES + 5)
    assert macs(50) - macs(25) == point * (48 + 12 - 24 - 6)


def test_uncertainty_is_the_distance_of_the_two_best():
    logits = torch.tensor([3.0, 1.0, 2.5]).view(1, 3, 1, 1)
    assert uncertainty(logits).tolist() == [[[-0.5]]]


def test_gradients_reach_the_coarse_and_the_fine_layers():
    head = made()
    head(maps_of()).square().sum().backward()
    assert all(value.grad is not None and bool(value.grad.abs().sum() > 0) for value in head.parameters())


@torch.no_grad()
def test_a_single_map_has_nothing_finer():
    head = made(channels=(5,), strides=(4,))
    assert head(maps_of()[:1]).shape == (2, CLASSES, 12, 8)
    assert not head.points


class Wrapped(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.pools = torch.nn.ModuleList(
            torch.nn.Conv2d(3, c, s, s) for c, s in zip(CHANNELS, (1, 2, 4), strict=True)
        )
        self.head = made(points=20)

    def forward(self, x):
        return self.head([pool(x) for pool in self.pools])


@pytest.mark.parametrize("size", [(12, 8)])
@torch.no_grad()
def test_its_graph_tells_the_same(size):
    from dynnas.runtimes.onnx.graph import to_onnx
    from dynnas.runtimes.plain import PlainNetwork

    torch.manual_seed(0)
    network = PlainNetwork(Wrapped(), (3, *size), CLASSES).eval()
    runner, x = OnnxRunner(to_onnx(network).SerializeToString(), threads=1), torch.randn(3, 3, *size)
    for image in x:
        found = torch.from_numpy(runner(image[None].numpy()))
        torch.testing.assert_close(found, network(image[None]), rtol=1e-4, atol=1e-4)
