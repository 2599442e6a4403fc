"""A study from Python: candidates as a frame, the front, networks that take images as they are."""

import sys
from pathlib import Path

import pytest
import torch
from support.small_study import small_space

import dynnas
from dynnas.errors import MissingExtraError, StudyError
from dynnas.metrics.accuracy import accuracy
from dynnas.study.study import Study
from dynnas.workflows.run import run_study


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("opened")
    space = small_space(folder, search={"trials": 8, "controls": False}, train={"epochs": 2})
    run_study(space, folder=folder / "small")
    return dynnas.open_study("small", folder)


def test_the_example_of_the_docstring_runs(
    study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/mobile").symlink_to(study.folder.path)
    monkeypatch.chdir(tmp_path)
    text = dynnas.open_study.__doc__ or ""
    lines = [line.strip() for line in text.split("mobile.yaml`:")[1].splitlines() if line.strip()]
    *statements, last = lines
    names = {"dynnas": dynnas}
    exec("\n".join(statements), names)
    assert eval(last, names).shape == (8,)


def test_the_frame_has_every_candidate_with_metrics_and_genes(study: Study) -> None:
    frame = study.frame()
    assert list(frame["key"]) == [candidate.key for candidate in study.candidates]
    assert list(frame["accuracy"]) == [candidate.metrics["accuracy"] for candidate in study.candidates]
    assert set(frame[frame["on_front"]]["key"]) == {member.key for member in study.front}
    assert list(frame["stem.width"]) == [
        candidate.architecture["stem.width"] for candidate in study.candidates
    ]
    has_experts = ["stage1.0.experts" in candidate.architecture for candidate in study.candidates]
    assert list(frame["stage1.0.experts"].notna()) == has_experts


def test_without_pandas_the_extra_is_named(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pandas is not installed.*dynnas\[tables\]"):
        study.frame()


def test_a_loaded_network_takes_images_as_they_are(study: Study) -> None:
    member = study.front.pick("most-accurate")
    network = study.load("most-accurate")
    split = study.dataset.search
    with torch.no_grad():
        answers = network(split.images).argmax(dim=1)
        again = network(split.images.float() / 255).argmax(dim=1)
    right = (answers == split.targets).float().mean().item()
    assert right == pytest.approx(member.metrics["accuracy"], abs=1e-6)
    assert right == pytest.approx(accuracy(study.network(member.key), study.dataset).top1, abs=1e-6)
    assert torch.equal(again, answers)
    assert not network.training


def test_a_pick_that_is_not_there_is_refused(study: Study) -> None:
    with pytest.raises(StudyError, match="no members have the key 'zzz'"):
        study.load("zzz")
