"""Space files that name a task, over images that are no squares: searched, and what is found runs alone."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.boxes import voc

from dynnas.data.streaming.images import read_images
from dynnas.export.bundle import export_model
from dynnas.language.parser import parse_space
from dynnas.metrics.score import Score
from dynnas.report.study import study_table
from dynnas.study.study import Study
from dynnas.workflows.run import run_study

FILE = """
input: {{resolutions: [[16, 24], [24, 32]]}}
stem: {{width: [4, 8], stride: 2}}
stages:
  - {{block: basic, width: 8, stride: 2, depth: [1, 2], op: [static, condconv], experts: 2, gate: {gate}}}
  - {{block: mbconv, width: [8, 16], stride: 2, expand: 2}}
head: {head}
data: {{task: {task}, source: {source}, augment: none, search_images: 8}}
train: {{epochs: 1, batch: 16, calibration_images: 16, precision: float32, layout: channels_first}}
search: {{trials: 2, controls: false, seed: 1}}
target: {{seconds: 0.02, images: 2}}
"""


def roads(root: Path) -> Path:
    """Write pictures (24, 32) whose upper part has one colour and whose lower part another, and masks."""
    rng = np.random.default_rng(0)
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for number in range(40):
        mask = np.zeros((24, 32), np.uint8)
        mask[6 + number % 12 :] = 1
        pixels = np.where(mask[..., None] == 1, (200, 60, 40), (40, 90, 210)) + rng.integers(
            0, 30, (24, 32, 3)
        )
        Image.fromarray(pixels.astype(np.uint8)).save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    return root


def searched(text: str, folder: Path) -> Study:
    space = parse_space(text)
    path = folder / "space.yaml"
    path.write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYNNAS_CACHE", str(folder / "cache"))
        from dynnas.language.parser import load_space

        assert load_space(path).digest == space.digest
        return run_study(load_space(path), folder=folder / "study")


HEADS = {
    "segmentation": "{kind: [lraspp, pyramid], neck: [8, 12], tower: [0, 1], finest: [4, 8]}",
    "detection": "{neck: [8, 12], tower: 1, finest: 4}",
}


@pytest.fixture(scope="module", params=["segmentation", pytest.param("detection", marks=pytest.mark.slow)])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp(request.param)
    source = roads(folder / "road") if request.param == "segmentation" else voc(folder / "cells")
    gate = "[none, skip]" if request.param == "segmentation" else "none"
    text = FILE.format(head=HEADS[request.param], task=request.param, source=source, gate=gate)
    return searched(text, folder)


def test_candidates_are_ranked_by_the_scores_of_the_task(study: Study) -> None:
    first = study.dataset.task.metrics[0].name
    assert [objective.name for objective in study.goal.objectives] == [first, "latency_ms"]
    for member in study.front:
        again = Score().measure(study.extractor.candidate(member.architecture))
        assert again[first] == pytest.approx(member.metrics[first], abs=1e-6)
        assert member.metrics["latency_ms"] > 0
    assert study.dataset.size == (24, 32)
    table = study_table(study)
    assert [column.name for column in table.columns[:3]] == ["key", f"{first} %", "test %"]
    for row, member in zip(table.rows, study.front, strict=True):
        shown = [f"{100 * member.metrics[name]:.2f}" for name in (first, f"test_{first}")]
        assert [cell.split(" ")[0] for cell in row[1:3]] == shown


def test_a_loaded_network_answers_for_images_of_its_size(study: Study) -> None:
    member = study.front.pick("fastest")
    network = study.load(member.key)
    height, width = member.architecture["resolution"]
    output = network(torch.zeros(2, 3, height, width))
    task = study.dataset.task
    if task.name == "segmentation":
        stride = min(network.features(torch.zeros(1, 3, height, width)))
        finest = max(stride, member.architecture["head.finest"])
        assert output.shape == (2, 2, -(-height // finest), -(-width // finest))
    else:
        places = -(-height // 4) * -(-width // 4) + -(-height // 8) * -(-width // 8)
        assert output.shape == (2, min(places, 100), 6)


@pytest.fixture(scope="module")
def script(study: Study, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the program of an exported member of the smaller images, and its member."""
    bundle = tmp_path_factory.mktemp("bundle") / "model"
    sizes = {member.architecture["resolution"]: member for member in (*study.candidates, *study.front)}
    member = sizes.get((16, 24)) or sizes[24, 32]
    export_model(study.network(member.key), study.dataset, bundle, "onnx", images=16)
    spec = importlib.util.spec_from_file_location("run", bundle / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, bundle, member


def test_what_is_exported_scores_alone_what_the_search_said(study: Study, script: Any) -> None:
    module, bundle, member = script
    model, of_bytes = module.Model(bundle), module.Model(bundle, pictures=True)
    data = study.dataset
    task = data.task
    answers = [model(np.asarray(image)).value for image in read_images(data.search.images)]
    targets = data.search.targets
    for image, value in zip(read_images(data.search.images), answers, strict=True):
        again = of_bytes(np.asarray(image)).value
        assert (again.dtype, again.shape) == (value.dtype, value.shape)
        assert np.isclose(again, value, rtol=1e-3, atol=1e-3).mean() > 0.99
    if task.name == "segmentation":
        said = torch.from_numpy(np.stack(answers)).long()
        outputs = torch.nn.functional.one_hot(said, 2).permute(0, 3, 1, 2).float()
    else:
        outputs = torch.from_numpy(np.stack(answers))
    first = task.metrics[0].name
    assert task.score(outputs, targets)[first] == pytest.approx(member.metrics[first], abs=0.02)
