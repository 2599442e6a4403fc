"""`dynnas calibrate` and `dynnas measure`, on what is as small as it can be."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

SPACE = """
name: tiny
input: {channels: 1, classes: 10, resolutions: 8}
stem: {width: [4, 8]}
stages: [{block: dwsep, depth: [1, 2], width: [8, 16], stride: 2, op: [static, condconv], experts: 2}]
head: {width: [8, 16]}
data: {source: digits, train_images: 256, search_images: 64}
train: {epochs: 1, precision: float32, layout: channels_first}
search: {trials: 6, controls: false}
target: {seconds: 0.02}
"""
FEW = ("--samples", "10", "--held-out", "3", "--seconds", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("measuring")
    (folder / "tiny.yaml").write_text(SPACE, encoding="utf-8")
    (folder / "choices.yaml").write_text("choices: {edge: [a, b]}\n", encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DYNNAS_CACHE", str(folder / "cache"))


@pytest.mark.slow
def test_a_calibrated_space_is_searched_with_predictions(dynnas: Callable, folder: Path) -> None:
    ran = dynnas("calibrate", "tiny.yaml", *FEW)
    assert ran.status == 0, ran.err
    assert "predicted and measured" in ran.out
    assert "measured twice (noise)" in ran.out
    (predictor,) = (folder / "cache/predictors").glob("*.json")
    assert str(predictor) in ran.out
    assert predictor.with_suffix(".png").stat().st_size > 10_000

    ran = dynnas("search", "tiny.yaml")
    assert ran.status == 0, ran.err
    assert re.search(
        r"latency predictor loaded \(error \d+\.\d%\); clearly dominated candidates are not measured", ran.err
    )
    assert (folder / "studies/tiny/predictor.json").read_text() == predictor.read_text()
    assert '"predicted"' in (folder / "studies/tiny/front.json").read_text()


def test_a_study_is_calibrated_and_measured_again(dynnas: Callable, folder: Path) -> None:
    if not (folder / "studies/tiny").exists():
        dynnas("search", "tiny.yaml")
    ran = dynnas("calibrate", "tiny", *FEW)
    assert ran.status == 0, ran.err
    assert "studies/tiny/predictor.json" in ran.out
    for words in (("measure", "tiny"), ("measure", "tiny", "--all")):
        ran = dynnas(*words)
        assert ran.status == 0, ran.err
        assert "mean ms" in ran.out
    assert "measuring" in ran.err


def test_what_cannot_be_calibrated_is_said_in_one_line(dynnas: Callable) -> None:
    ran = dynnas("calibrate", "choices.yaml")
    assert (ran.status, ran.out) == (2, "")
    assert "a space of plain choices has no networks to time" in ran.err
    Path("mine.yaml").write_text("model: support.mynet:MyNet\nchoices: {depth: [1, 2], width: [4, 8]}\n")
    ran = dynnas("calibrate", "mine.yaml")
    assert ran.status == 2
    assert "these networks are of a class; search without one, every candidate is timed then" in ran.err
    ran = dynnas("calibrate", "nowhere")
    assert ran.status == 2
    assert "no study 'nowhere'" in ran.err
    ran = dynnas("calibrate", "tiny.yaml", "--samples", "3")
    assert ran.status == 2
    assert "3 networks and 20 held out; at least 10 and 3 are needed" in ran.err
