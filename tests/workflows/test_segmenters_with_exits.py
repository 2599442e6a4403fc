"""Segmenters of one's own class whose images leave early: searched, timed by exit, budgeted and shipped."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.testing import assert_allclose
from support.networks import one_by_one
from support.own_branches import conv
from support.scripts import load_script
from torch import nn

import dynnas
import dynnas.nn as dnn
from dynnas.data.streaming.images import read_images
from dynnas.export.bundle import export_model
from dynnas.metrics.judging import judge_network
from dynnas.nn.context import Context, supplied
from dynnas.runtimes.cost import cost_of
from dynnas.runtimes.onnx.graph import to_onnx
from dynnas.runtimes.onnx.session import OnnxRunner
from dynnas.runtimes.plain import PlainNetwork
from dynnas.settings.settings import TargetSettings, TrainSettings

CLASSES = 3


class Segmenter(nn.Module):
    """Two stages at a stride of 2; an easy scene leaves behind the first."""

    def __init__(self, width: int = 4, threshold: float = 0.5) -> None:
        super().__init__()
        self.stem = conv(3, width, 2)
        stages = [conv(width, width), conv(width, width)]
        exits = [nn.Conv2d(width, CLASSES, 1) for _ in stages]
        self.exits = dnn.EarlyExits(stages, exits, threshold=threshold)

    def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        return self.exits(self.stem(x))


def images(count: int = 24) -> torch.Tensor:
    return torch.randn(count, 3, 12, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def network() -> PlainNetwork:
    torch.manual_seed(0)
    module = Segmenter().train()
    for _ in range(5):
        module(images())
    module.eval()
    with torch.no_grad(), supplied(module, Context()):
        early, _ = module.exits.outputs(module.stem(images()))
    sure = dynnas.tasks.Segmentation(CLASSES).confidence(early)
    assert torch.equal(module.exits.confidence(early), sure)  # the task's own
    module.exits.thresholds = (float(sure.median()) + 1e-4,)
    return PlainNetwork(module, (3, 12, 16), CLASSES).eval()


@torch.no_grad()
def test_graphs_branch_and_say_what_torch_says(network: PlainNetwork) -> None:
    masked = network(images()).numpy()
    assert masked.shape == (24, CLASSES, 6, 8)
    assert_allclose(network.module(images()).numpy(), masked, rtol=1e-4, atol=1e-5)
    graph = to_onnx(network)
    assert any(node.op_type == "If" for node in graph.graph.node)
    runner = OnnxRunner(graph.SerializeToString(), threads=1)
    assert_allclose(one_by_one(runner, images()), masked, rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory):
    rng, parts = np.random.default_rng(0), []
    for count in (32, 12, 12):
        masks = rng.integers(0, CLASSES, (count, 3, 4)).repeat(4, 1).repeat(4, 2)
        pixels = 80 * np.eye(CLASSES)[masks] + rng.integers(0, 40, (count, 12, 16, 3))
        parts.append((pixels.astype(np.uint8), masks))
    return dynnas.search(
        dynnas.Space.of(Segmenter, width=[4], threshold=[0.0, 1.0]),
        data=tuple(parts),
        task=dynnas.tasks.Segmentation(CLASSES),
        train=TrainSettings(epochs=1, batch=16, calibration_images=16, precision="float32"),
        target=TargetSettings(seconds=0.01, images=2),
        objectives=("mean_iou", "params"),
        trials=2,
        controls=False,
        folder=tmp_path_factory.mktemp("exits") / "study",
    )


def test_scores_and_shares_are_those_of_the_exits(front) -> None:
    data = front.study.dataset
    found = {member.architecture["threshold"]: member for member in front.study.candidates}
    for threshold, first in ((0.0, 1.0), (1.0, 0.0)):
        member = found[threshold]
        assert member.metrics["exit_share.exit0"] == first
        module = front.study.network(member.key).module
        with torch.no_grad(), supplied(module, Context()):
            outputs = module.exits.outputs(module.stem(data.normalise(data.search.images)))
        scores = data.task.score(outputs[0 if first else 1], data.search.targets)
        assert member.metrics["mean_iou"] == pytest.approx(scores["mean_iou"], abs=1e-6)
    assert found[0.0].metrics["expected_macs"] < found[1.0].metrics["expected_macs"]


def test_each_exit_is_judged_by_the_task(front) -> None:
    study = front.study
    network = study.network(front[0].key)
    judged = judge_network(network, study.dataset, study.dataset.search, cost_of(network))
    module, data = network.module, study.dataset
    with torch.no_grad(), supplied(module, Context()):
        outputs = module.exits.outputs(module.stem(data.normalise(data.search.images)))
    for right, output in zip(judged.right, outputs, strict=True):
        assert torch.allclose(right, data.task.quality(output, data.search.targets))


def test_what_ships_branches_and_says_by_which_exit(front, tmp_path: Path) -> None:
    study, data = front.study, front.study.dataset
    network = study.network(front[0].key)
    with torch.no_grad(), supplied(network.module, Context()):
        early, _ = network.module.exits.outputs(network.module.stem(data.normalise(data.search.images)))
    network.module.exits.thresholds = (float(network.module.exits.confidence(early).median()) + 1e-3,)
    export_model(network, data, tmp_path / "model", "onnx", images=12)
    graph = onnx.load(next((tmp_path / "model").glob("*.onnx")))
    assert any(node.op_type == "If" for node in graph.graph.node)
    model = load_script(tmp_path / "model" / "run.py").Model(tmp_path / "model")
    answers = [model(image) for image in read_images(data.search.images).numpy()]
    assert {answer.exit for answer in answers} == {"exit0", "head"}
    with torch.no_grad():
        small = network(data.normalise(data.search.images))
    expected = nn.functional.interpolate(small, (12, 16), mode="bilinear").argmax(1).numpy()
    assert (np.stack([answer.value for answer in answers]) == expected).mean() > 0.99
