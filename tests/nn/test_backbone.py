"""Networks of any height and width, and the heads that read their maps."""

import random

import pytest
import torch
from support.map_heads import HEADS_OF

from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.nn.config.backbone import MapHeadConfig
from dynnas.nn.config.choice import Choice
from dynnas.nn.gates.costs import gate_costs_of
from dynnas.nn.layers.macs import count_macs
from dynnas.nn.layers.resize import resize
from dynnas.nn.registry import HEADS
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.make import make_supernet

FILE = """
input: {{resolutions: {sizes}}}
stem: {{width: [4, 8], stride: 2}}
stages:
  - {{block: basic, width: [8, 12], depth: [1, 2], stride: 2, op: [static, condconv], experts: 2}}
  - {{block: mbconv, width: [12, 16], depth: [1, 2], stride: [1, 2], gate: [none, skip]}}
head: {head}
data: {{task: {task}}}
"""
SIZES = "[[12, 20], [16, 24]]"


@pytest.mark.parametrize("task", HEADS_OF)
def test_extracted_networks_equal_the_supernet(task: str) -> None:
    known, head = HEADS_OF[task]
    space = parse_space(FILE.format(sizes=SIZES, head=head, task=task)).of_data((3, 16, 24), known)
    supernet = make_supernet(space, 3, 5).train()
    images, rng = torch.randn(2, 3, 16, 24), random.Random(0)
    for architecture in (largest(space), smallest(space), *(sample(space, rng) for _ in range(6))):
        network = supernet.extract(architecture)
        small = resize(images, architecture["resolution"])
        torch.manual_seed(0)  # gates draw
        expected = supernet(architecture, images)
        torch.manual_seed(0)
        assert torch.equal(network(small), expected)
        strides = network.features(small)
        assert {stride: tuple(each.shape[2:]) for stride, each in strides.items()} == {
            stride: tuple(-(-side // stride) for side in small.shape[2:]) for stride in strides
        }


def test_files_without_a_task_have_a_classifier_for_rectangles() -> None:
    space = parse_space("input: {resolutions: [[8, 12], 6]}\nstem: {width: 4}\nstages: [{width: 8}]")
    assert space.gene("resolution").values == ((6, 6), (8, 12))
    assert (space.model, space.settings.data.size) == (None, (8, 12))
    network = make_supernet(space, 1, 3).extract(largest(space)).eval()
    assert network(torch.zeros(2, 1, 8, 12)).shape == (2, 3)


def test_multiply_adds_of_a_gate_are_those_of_its_rectangle() -> None:
    space = parse_space(
        FILE.format(sizes="[[16, 24]]", head=HEADS_OF["segmentation"][1], task="segmentation")
    )
    network = space.build({**largest(space), "stage2.1.gate": "skip", "stage2.1.gate_target": 0.5}).eval()
    images = torch.zeros(1, 3, 16, 24)
    (cost,) = gate_costs_of(network, lambda: network(images))
    block = network.slots["stage2__1"].block
    seen = network.features(images)[8]
    assert cost.full == count_macs(block, seen)[1]
    assert cost.macs[-1] > cost.full > cost.macs[0]


def test_boxes_are_in_pixels_of_the_data() -> None:
    kind = Choice.of("boxes", neck=8, tower=1, finest=4)
    maps = [torch.rand(2, 6, 4, 5), torch.rand(2, 9, 2, 3)]
    torch.manual_seed(0)
    own = HEADS["boxes"](MapHeadConfig(kind, (6, 9), (4, 8), 3))
    torch.manual_seed(0)
    scaled = HEADS["boxes"](MapHeadConfig(kind, (6, 9), (4, 8), 3, scale=(2.0, 3.0)))
    factors = torch.tensor([2.0, 3, 2, 3, 2, 3, 3, 1, 1, 1])
    assert torch.equal(scaled(maps), own(maps) * factors)
    found, expected = scaled.eval()(maps), own.eval()(maps)
    assert torch.equal(found, expected * torch.tensor([2.0, 3, 2, 3, 1, 1]))


@pytest.mark.parametrize("task", ["segmentation", "detection"])
def test_a_teacher_of_another_size_can_teach(task: str) -> None:
    known, head = HEADS_OF[task]
    space = parse_space(FILE.format(sizes=SIZES, head=head, task=task)).of_data((3, 16, 24), known)
    supernet, images = make_supernet(space, 3, 5).train(), torch.randn(2, 3, 16, 24)
    output, teacher = (supernet(each(space), images) for each in (smallest, largest))
    assert output.shape != teacher.shape
    losses = known.distill(output, teacher.detach())
    assert losses.shape == (2,)
    assert bool(losses.isfinite().all())
    losses.sum().backward()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("head: {neck", "head: {kind: [pyramid, boxes], neck"), "of pixels.*of boxes.*one kind of answer"),
        (("head: {neck: [8, 12]", "head: {width: 8"), "head.width: never used.*where kind is classifier"),
        (
            ("[[12, 20], [16, 24]]", "[[12, 20, 3]]"),
            r"input.resolutions: found a list; allowed: \[height, width\]",
        ),
        (("[[12, 20], [16, 24]]", "[[12, 20], [12, 20]]"), "input.resolutions: a list is listed twice"),
        (("gate: [none, skip]", "gate: [none, halt]"), "stage2.gate: found halt; networks whose head"),
        (("gate: [none, skip]", "gate: skip, gate_reads: policy"), "stage2.gate_reads: .*allowed: block"),
    ],
)
def test_files_that_make_no_sense(change: tuple[str, str], message: str) -> None:
    text = FILE.format(sizes=SIZES, head=HEADS_OF["detection"][1], task="detection")
    assert change[0] in text
    with pytest.raises(SpaceError, match=message):
        parse_space(text.replace(*change))
