"""A space file of segmenters with exits: searched, budgeted, audited and shipped."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support.scripts import load_script
from torch import nn

import dynnas
from dynnas.data.streaming.images import read_images
from dynnas.export.bundle import export_model
from dynnas.language.parser import parse_space
from dynnas.metrics.judging import judge_network
from dynnas.nn.context import Context, supplied
from dynnas.nn.exits.map_exits import MapExits
from dynnas.runtimes.cost import cost_of

CLASSES = 3
FILE = """
input: {resolutions: [[24, 32]]}
stem: {width: 8, stride: 2}
stages: [{block: basic, width: 8, stride: 2}, {width: [8, 12], stride: 2}]
head: {kind: lraspp, neck: 8, finest: 4}
exits: {positions: stage1, count: 1, thresholds: [0.0, 1.0], width: 8}
data: {task: segmentation, augment: none}
train: {epochs: 1, batch: 16, calibration_images: 16, precision: float32}
search: {objectives: [mean_iou, params], trials: 4, controls: false}
target: {seconds: 0.01, images: 2}
"""


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory):
    rng, parts = np.random.default_rng(0), []
    for count in (32, 12, 12):
        masks = rng.integers(0, CLASSES, (count, 3, 4)).repeat(8, 1).repeat(8, 2)
        pixels = 80 * np.eye(CLASSES)[masks] + rng.integers(0, 40, (count, 24, 32, 3))
        parts.append((pixels.astype(np.uint8), masks))
    return dynnas.search(
        parse_space(FILE),
        data=tuple(parts),
        task=dynnas.tasks.Segmentation(CLASSES),
        folder=tmp_path_factory.mktemp("map_exits") / "study",
    )


def exits_of(network: nn.Module) -> MapExits:
    (found,) = (module for module in network.modules() if isinstance(module, MapExits))
    return found


def outputs_of(front, network: nn.Module) -> tuple[torch.Tensor, ...]:
    data = front.study.dataset
    with torch.no_grad(), supplied(network, Context()):
        return exits_of(network).outputs(data.normalise(data.search.images))


def test_scores_shares_and_costs_are_those_of_the_exit_taken(front) -> None:
    study, data = front.study, front.study.dataset
    found = {member.architecture["exits.stage1.threshold"]: member for member in study.candidates}
    for threshold, first in ((0.0, 1.0), (1.0, 0.0)):
        member = found[threshold]
        assert member.metrics["exit_share.stage1"] == first
        network = study.network(member.key)
        output = outputs_of(front, network)[0 if first else 1]
        score = data.task.score(output, data.search.targets)
        assert member.metrics["mean_iou"] == pytest.approx(score["mean_iou"], abs=1e-6)
        assert member.metrics["expected_macs"] == cost_of(network).exit_macs[0 if first else 1]
    judged = judge_network(network, data, data.search, cost_of(network))
    for right, output in zip(judged.right, outputs_of(front, network), strict=True):
        assert torch.allclose(right, data.task.quality(output, data.search.targets))


def test_what_ships_branches_and_says_by_which_exit(front, tmp_path: Path) -> None:
    study, data = front.study, front.study.dataset
    network = study.network(front[0].key)
    exits, (early, _) = exits_of(network), outputs_of(front, network)
    exits.thresholds = (float(exits.confidence(early).median()) + 1e-5,)
    export_model(network, data, tmp_path / "model", "onnx", images=12)
    graph = onnx.load(next((tmp_path / "model").glob("*.onnx")))
    assert any(node.op_type == "If" for node in graph.graph.node)
    model = load_script(tmp_path / "model" / "run.py").Model(tmp_path / "model")
    answers = [model(image) for image in read_images(data.search.images).numpy()]
    assert {answer.exit for answer in answers} == {"stage1", "head"}
    with torch.no_grad():
        small = network(data.normalise(data.search.images))
    expected = nn.functional.interpolate(small, (24, 32), mode="bilinear").argmax(1).numpy()
    assert (np.stack([answer.value for answer in answers]) == expected).mean() > 0.99
