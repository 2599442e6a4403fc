"""Exits of space files whose head reads maps: small heads on earlier maps, for pixels and for boxes."""

import random
import re
from itertools import zip_longest

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from support.map_heads import HEADS_OF
from support.networks import one_by_one
from torch import nn
from torch.nn import functional as F

from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.nn.exits.early_exits import OUTPUT
from dynnas.nn.exits.map_exits import MapExits
from dynnas.nn.gates.state import Flow
from dynnas.nn.layers.macs import count_macs
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx, to_onnx_batch
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.make import make_supernet
from dynnas.tasks import Segmentation

FILE = """
input: {{resolutions: {sizes}}}
stem: {{width: [4, 8], stride: 2}}
stages:
  - {{block: basic, width: [8, 12], depth: [1, 2], stride: 2, op: [static, condconv], experts: 2}}
  - {{block: mbconv, width: [12, 16], depth: [1, 2], stride: [1, 2], gate: [none, skip]}}
  - {{block: mbconv, width: [12, 16], depth: 2, stride: 2}}
head: {head}
exits: {{positions: [stage1, stage2, stage3.0], count: [0, 1, 2, 3], thresholds: [0.25, 0.4], width: [4, 8]}}
data: {{task: {task}}}
"""
SIZES = "[[12, 20], [24, 32]]"


def space_of(task: str, **more: str):
    known, head = HEADS_OF[task]
    return parse_space(FILE.format(sizes=SIZES, head=head, task=task, **more)).of_data((3, 24, 32), known)


@pytest.mark.parametrize("task", HEADS_OF)
def test_extracted_networks_equal_the_supernet_at_every_exit(task: str) -> None:
    space = space_of(task)
    supernet, rng = make_supernet(space, 3, 5).train(), random.Random(0)
    images = torch.randn(2, 3, 24, 32)
    for architecture in (largest(space), smallest(space), *(sample(space, rng) for _ in range(3))):
        network = supernet.extract(architecture)
        small = F.interpolate(images, architecture["resolution"], mode="nearest")
        both = []
        for each in (lambda x, at=architecture: supernet(at, x), network):
            torch.manual_seed(0)  # gates draw
            found = each(small)
            both.append(found if isinstance(found, tuple) else (found,))
        assert all(map(torch.equal, *both))
        exits = architecture["exits.at"]
        assert len(both[0]) == 1 + (0 if exits == "none" else len(exits.split("+")))
        if task == "segmentation":  # what is said early has the size of what is said late
            assert len({output.shape for output in both[0]}) == 1


def unsure(task: str, head: str) -> tuple[PlainNetwork, MapExits, torch.Tensor]:
    """A network whose images leave at either exit or at the head, about a third at each."""
    text = """
input: {{resolutions: [[24, 32]]}}
stem: {{width: 8, stride: 2}}
stages:
  - {{block: basic, width: 12, depth: 2, stride: 2}}
  - {{block: mbconv, width: 16, depth: 2, stride: 2}}
  - {{block: mbconv, width: 24, depth: 2, stride: 2, gate: [skip], gate_target: 0.5}}
head: {head}
exits: {{positions: [stage1, stage2.0], count: 2, thresholds: 0.5, width: 8}}
data: {{task: {task}}}
"""
    space = parse_space(text.format(head=head, task=task)).of_data((3, 24, 32), HEADS_OF[task][0])
    torch.manual_seed(0)
    network = space.build(largest(space)).train()
    for module in network.modules():
        if hasattr(module, "class_logits"):  # else all detections are as unsure at first
            nn.init.normal_(module.class_logits.weight, std=2.0)
    images = torch.randn(24, 3, 24, 32, generator=torch.Generator().manual_seed(0))
    for _ in range(5):
        network(images)
    (exits,) = (module for module in network.eval().modules() if isinstance(module, MapExits))
    with torch.no_grad():
        first, second, _ = exits.outputs(images)
        exits.thresholds = tuple(
            float(exits.confidence(said).quantile(share)) + 1e-6
            for said, share in ((first, 0.65), (second, 0.5))
        )
    return PlainNetwork(network, (3, 24, 32), 5).eval(), exits, images


@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("segmentation", "{kind: pyramid, neck: 8, tower: 1, finest: 4}"),
        (
            "segmentation",
            "{kind: lraspp, neck: 8, finest: 8}",
        ),  # behind stage1 maps are finer than its answer
        ("detection", "{neck: 8, tower: 1, finest: 4}"),
    ],
)
@torch.no_grad()
def test_masked_outputs_are_those_of_real_branches_and_of_graphs(task: str, head: str) -> None:
    network, exits, images = unsure(task, head)
    outputs = exits.outputs(images)
    masked, expected = exits.select(outputs)
    sure = [HEADS_OF[task][0].confidence(output) for output in outputs]
    for row, taken in enumerate(expected.tolist()):
        first = next((at for at in (0, 1) if sure[at][row] >= exits.thresholds[at]), 2)
        assert taken == first
    assert min(expected.bincount(minlength=3).tolist()) > 3
    y, taken = exits.leave(images)
    assert torch.equal(taken, expected)
    assert_allclose(y.numpy(), masked.numpy(), rtol=1e-4, atol=1e-4)

    graph = to_onnx(network)
    assert_allclose(
        one_by_one(OnnxRunner(graph.SerializeToString(), threads=1), images),
        masked.numpy(),
        rtol=1e-3,
        atol=1e-3,
    )
    import onnxruntime

    session = onnxruntime.InferenceSession(to_onnx_batch(network).SerializeToString())
    said, left = session.run(None, {"image": images.numpy()})
    assert np.array_equal(left, expected.numpy())
    assert_allclose(said, masked.numpy(), rtol=1e-3, atol=1e-3)


def stages_by_depth(graph) -> list[set[str]]:
    """Return the parts of the container whose weights convolutions read, by how many exits lie before."""
    here, inner = set(), []
    for node in graph.node:
        if node.op_type == "Conv":
            here |= {".".join(found) for found in re.findall(r"(stages|exits)\.(\d)\.", node.input[1])}
        inner += [stages_by_depth(each.g) for each in node.attribute if each.HasField("g")]
    deeper = [set().union(*parts) for parts in zip_longest(*inner, fillvalue=set())]
    return [each for each in (here, *deeper) if each]


@torch.no_grad()
def test_what_follows_an_exit_lies_in_a_branch_and_costs_count_it() -> None:
    network, exits, images = unsure("segmentation", "{kind: pyramid, neck: 8, tower: 1, finest: 4}")
    assert network.config.ways == ("stage1", "stage2.0", "head")
    at_depth = stages_by_depth(to_onnx(network).graph)
    assert at_depth == [{"stages.0", "exits.0"}, {"stages.1", "exits.1"}, {"stages.2", "exits.2"}]
    found = cost_of(network)
    flow = Flow(images[:1])
    macs = 0
    for number in range(2):
        step = exits.step(number)

        class Votes(nn.Module):
            def forward(self, x, step=step, flow=flow):
                return step.votes(flow._replace(x=x))[1].beside[OUTPUT]

        holder = Votes()
        holder.exits = exits
        macs += count_macs(holder, flow.x)[1]
        assert found.exit_macs[number] == macs
        told = step.votes(flow)[1]
        flow = Flow(told.x, {name: each for name, each in told.beside.items() if name != OUTPUT})
    assert found.exit_macs[2] > macs


@torch.no_grad()
def test_lists_of_detections_are_as_long_as_the_heads() -> None:
    _, exits, images = unsure("detection", "{neck: 8, tower: 1, finest: 8}")
    assert [output.shape for output in exits.outputs(images)] == [(24, 3 * 4 + 2 * 2, 6)] * 3
    assert (exits.outputs(images)[0][:, 12:] == 0).all()  # it reads the places of a stride of 8 alone


def test_pixels_are_a_criterion_of_their_own() -> None:
    task = Segmentation(2)
    logits = torch.tensor([[[[9.0, 0, 9, 0]], [[0.0, 0, 0, 9]]]])
    assert float(task.confidence(logits, "pixels")) == 0.75
    assert float(task.confidence(logits)) == pytest.approx((3 * 1 / (1 + np.exp(-9)) + 0.5) / 4)
    space = space_of("segmentation")
    told = parse_space(
        FILE.format(sizes=SIZES, head=HEADS_OF["segmentation"][1], task="segmentation").replace(
            "width: [4, 8]}\ndata", "width: 8, criterion: [pixels]}\ndata"
        )
    ).of_data((3, 24, 32), task)
    values = {**largest(told), "exits.at": "stage1", "exits.stage1.threshold": 0.4}
    (exits,) = (each for each in told.build(values).modules() if isinstance(each, MapExits))
    assert float(exits.confidence(logits)) == 0.75
    assert "exits.criterion" not in {gene.name for gene in space.genes}


@pytest.mark.parametrize(
    ("task", "change", "message"),
    [
        ("segmentation", ("8]}\nd", "8], criterion: learned}\nd"), "learned.*allowed: confidence, pixels"),
        ("detection", ("8]}\nd", "8], criterion: pixels}\nd"), "answers for boxes; allowed: confidence"),
        ("segmentation", ("8]}\nd", "8], activation: silu}\nd"), "exits.activation: never used; .*classif"),
        (
            "segmentation",
            ("kind: [lraspp, pyramid, pointrend]", "kind: task"),
            "head.kind task, .*EarlyExits",
        ),
        ("segmentation", ("stage3.0]", "stage3]"), "exits.positions: found 'stage3'"),
    ],
)
def test_sections_that_make_no_sense(task: str, change: tuple[str, str], message: str) -> None:
    text = FILE.format(sizes=SIZES, head=HEADS_OF[task][1], task=task)
    assert change[0] in text
    with pytest.raises(SpaceError, match=message):
        parse_space(text.replace(*change))


def test_a_classifier_has_no_pixels() -> None:
    text = "input: {resolutions: 8}\nstem: {width: 4}\nstages: [{width: 8}, {width: 8}]\n"
    with pytest.raises(SpaceError, match="found pixels, and the head answers for a whole image; allowed"):
        parse_space(text + "exits: {positions: stage1, criterion: pixels}")
