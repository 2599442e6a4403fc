"""A script's step and score in a space file: searched, reported, trained on and shipped by the commands."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from support.cli import Ran, command
from support.made_once import made_once
from support.restoring import score
from support.scripts import load_script

import dynnas
from dynnas.errors import StudyError, TaskError
from dynnas.language.parser import parse_space
from dynnas.pareto import noise
from dynnas.study.study import open_study

FILE = """
name: restore
input: {resolutions: [[12, 16]]}
stem: {width: [4, 8], stride: 2}
stages:
  - {block: conv, width: [4, 8], op: [static, condconv], experts: 2, gate: [none, skip], depth: [1, 2]}
head: {neck: 8, finest: 2}
data:
  source: support.restoring:pictures
  task: functions
  task_options:
    step: support.restoring:step
    score: support.restoring:score
    head: support.restoring:head
    metrics: {psnr: maximize, worst: minimize}
train: {epochs: 2, batch: 16, calibration_images: 16, precision: float32, layout: channels_first}
search: {trials: 4, controls: false, objectives: [psnr, params], constraints: {worst: 1000}}
target: {seconds: 0.01, images: 2}
"""


def make(folder: Path) -> None:
    (folder / "restore.yaml").write_text(FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = command("search", "restore.yaml", "--max", "worst=900", "--quiet")
        assert ran.status == 0, ran.err


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "restore", make)


@pytest.fixture(autouse=True)
def _there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


def run(*words: str) -> Ran:
    ran = command(*words)
    assert ran.status == 0, ran.err
    return ran


def test_its_metrics_are_objectives_and_limits_and_are_what_the_function_says() -> None:
    study = open_study("restore")
    assert [objective.name for objective in study.goal.objectives] == ["psnr", "params"]
    assert study.goal.constraints == {"worst": 900}
    assert len(study.front) >= 1
    for member in study.front:
        network, data = study.network(member.key), study.dataset
        for split, name in ((data.search, str), (data.test, noise.tested)):
            with torch.no_grad():
                found = score(network, [(data.normalise(split.images), split.targets)])
            for metric, value in found.items():
                assert member.metrics[name(metric)] == pytest.approx(float(value), rel=1e-4)


def test_front_report_and_training() -> None:
    assert "psnr" in run("front", "restore").out
    run("report", "restore")
    assert "psnr" in Path("studies/restore/report.html").read_text()
    run("train", "restore", "--pick", "fastest", "--epochs", "1", "--quiet")
    (found,) = open_study("restore").trained
    assert set(found.scores) == {"psnr", "worst", "test_psnr", "test_worst"}


def test_what_ships_scores_alone_what_the_search_said(tmp_path: Path) -> None:
    study = open_study("restore")
    member = study.front.pick("fastest")
    run("export", "restore", "--pick", member.key, "--weights", "inherited", "--out", str(tmp_path / "model"))
    manifest = json.loads((tmp_path / "model" / "manifest.json").read_text())
    assert manifest["task"]["step"] == "support.restoring:step"
    model, data = load_script(tmp_path / "model" / "run.py").Model(tmp_path / "model"), study.dataset
    answers = np.stack([model(image).value for image in data.search.images.numpy()])
    images = data.normalise(data.search.images)
    found = score(lambda given: torch.from_numpy(answers), [(images, data.search.targets)])
    assert float(found["psnr"]) == pytest.approx(member.metrics["psnr"], rel=1e-3)


@pytest.mark.slow
def test_it_is_compressed() -> None:
    assert "psnr" in run("compress", "restore", "--pass", "int8", "--quiet").out


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("score", "support.restoring:pictures", r"its score raised TypeError: pictures\(\) takes 0"),
        ("step", "support.restoring:no_gradient", "no gradient passes through the loss of its step"),
    ],
)
def test_faults_of_the_functions_come_before_the_training(
    option: str, value: str, message: str, tmp_path: Path
) -> None:
    file = yaml.safe_load(FILE)
    file["data"]["task_options"][option] = value
    with pytest.raises(TaskError, match=message):
        dynnas.search(parse_space(yaml.safe_dump(file)), folder=tmp_path / "study")
    assert not list(tmp_path.glob("study/supernet*"))


def test_a_head_of_a_number_of_outputs_asks_for_it(tmp_path: Path) -> None:
    file = yaml.safe_load(FILE)
    del file["data"]["task_options"]["head"], file["head"]
    with pytest.raises(StudyError, match="which the task functions does not say; give outputs: N among"):
        dynnas.search(parse_space(yaml.safe_dump(file)), folder=tmp_path / "study")
