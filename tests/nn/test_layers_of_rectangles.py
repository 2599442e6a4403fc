"""Networks of space files for images that are no squares: exits, gates, policies and several scales."""

import random

import pytest
import torch
from support.graphs import assert_answers

from dynnas.errors import SpaceError
from dynnas.language.parser import parse_space
from dynnas.nn.config.network_json import config_from_dict, config_to_dict
from dynnas.nn.gates.costs import gate_costs, gate_costs_of
from dynnas.nn.layers.resize import resize
from dynnas.nn.networks.layer_features import pieces_of
from dynnas.nn.networks.network import slot_module
from dynnas.report.plots.diagram import draw_diagram
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.space.moves import largest, sample, smallest
from dynnas.supernet.make import make_supernet

FILE = """
input: {resolutions: [[12, 20], [16, 24]]}
stem: {width: [4, 8], stride: 2}
stages:
  - {block: basic, width: 8, depth: [1, 2], gate: [none, halt], op: [static, condconv], experts: 2}
  - {block: mbconv, width: [12, 16], depth: 2, stride: 2, gate: [none, skip], gate_reads: [block, policy]}
exits: {positions: [stage1], thresholds: 0.4, width: 8, criterion: [confidence, learned]}
"""
DENSE = """
input: {resolutions: [[16, 24]]}
stem: {width: 8}
stages:
  - {block: msd, width: 4, depth: 2, scales: 2}
  - {block: msd, width: 4, depth: 2, scales: 2}
exits: {positions: [stage1], thresholds: 0.4, width: 8}
"""


@pytest.mark.parametrize("text", [FILE, DENSE], ids=["gates", "scales"])
def test_supernet_extracted_network_and_its_segments_are_one(text: str) -> None:
    space, rng = parse_space(text), random.Random(0)
    supernet = make_supernet(space, 3, 5).train()
    images = torch.randn(3, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    for architecture in (largest(space), smallest(space), *(sample(space, rng) for _ in range(2))):
        network, small = supernet.extract(architecture).train(), resize(images, architecture["resolution"])
        with torch.no_grad():
            torch.manual_seed(0)  # gates draw
            shared = supernet(architecture, images)
            torch.manual_seed(0)
            assert all(map(torch.equal, network.logits(small), shared))
            said = network.eval().logits(small)
            x, found = small, []
            for segment in network.segments():
                x = segment.body(x)
                found.append(segment.classifier(x))
        for own, alone in zip(said, found, strict=True):
            assert torch.allclose(own, alone, atol=1e-5)
        assert network.config.shape == (3, *architecture["resolution"])
        assert config_from_dict(config_to_dict(network.config)) == network.config


def test_costs_and_pieces_are_those_of_the_rectangle() -> None:
    space = parse_space(FILE)
    gated = {"stage2.1.gate": "skip", "stage2.1.gate_target": 0.5, "stage2.1.gate_reads": "policy"}
    network = make_supernet(space, 3, 5).extract(space.architecture({**largest(space), **gated})).eval()
    images = torch.zeros(1, 3, 16, 24)
    counted = gate_costs_of(network, lambda: network(images))
    for own, seen in zip(gate_costs(network.config), counted, strict=True):
        assert (own.macs, own.full) == (seen.macs, seen.full)
    shapes = {}

    def note(part, inputs):
        shapes.setdefault(part, inputs[0])

    handles = [part.register_forward_pre_hook(note) for part in network.slots.values()]
    network(images)
    for handle in handles:
        handle.remove()
    for piece in (piece for stretch in pieces_of(network.config) for piece in stretch):
        slot = next(slot for slot, config in network.config.slots() if config is piece.config)
        x = shapes[network.slots[slot_module(slot)]]
        assert piece.shape == tuple((x if isinstance(x, torch.Tensor) else x.x).shape[1:])
    assert "Network at 16×24 pixels" in draw_diagram(network.config)
    assert "8×12" in draw_diagram(network.config)


@pytest.mark.parametrize("text", [FILE, DENSE], ids=["gates", "scales"])
def test_the_graph_branches_as_the_network_does(text: str) -> None:
    space = parse_space(text)
    values = {**largest(space)}
    if text == FILE:
        values |= {"stage2.1.gate": "skip", "stage2.1.gate_target": 0.5, "stage2.1.gate_reads": "policy"}
    network = make_supernet(space, 3, 5).extract(space.architecture(values)).eval()
    assert_answers(to_onnx(network), network, torch.randn(6, 3, 16, 24))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("[16, 24]]}", "[16, 24]], choose: per_image}"),
            "choose: found per_image, and resolutions that are no squares",
        ),
        (
            ("[16, 24]]}", "[16, 24]], choose: glance}"),
            "choose: found glance, and resolutions that are no squares",
        ),
    ],
)
def test_what_only_squares_can_have(change: tuple[str, str], message: str) -> None:
    with pytest.raises(SpaceError, match=message):
        parse_space(FILE.replace(*change))
