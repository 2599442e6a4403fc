"""A study from Python: candidates as a frame, the front, networks that take images as they are."""

import sys
from pathlib import Path

import pytest
import torch

import dynnas
from dynnas.errors import MissingExtraError, StudyError
from dynnas.metrics.accuracy import accuracy
from dynnas.study.study import Study


def test_the_example_of_the_docstring_runs(
    small_study: Study, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies/mobile").symlink_to(small_study.folder.path)
    monkeypatch.chdir(tmp_path)
    text = dynnas.open_study.__doc__ or ""
    lines = [line.strip() for line in text.split("mobile.yaml`:")[1].splitlines() if line.strip()]
    *statements, last = lines
    names = {"dynnas": dynnas}
    exec("\n".join(statements), names)
    assert eval(last, names).shape == (8,)


def test_the_frame_has_every_candidate_with_metrics_and_genes(small_study: Study) -> None:
    frame = small_study.frame()
    assert list(frame["key"]) == [candidate.key for candidate in small_study.candidates]
    assert list(frame["accuracy"]) == [candidate.metrics["accuracy"] for candidate in small_study.candidates]
    assert set(frame[frame["on_front"]]["key"]) == {member.key for member in small_study.front}
    assert list(frame["stem.width"]) == [
        candidate.architecture["stem.width"] for candidate in small_study.candidates
    ]
    has_experts = ["stage1.0.experts" in candidate.architecture for candidate in small_study.candidates]
    assert list(frame["stage1.0.experts"].notna()) == has_experts


def test_without_pandas_the_extra_is_named(small_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pandas is not installed.*dynnas\[tables\]"):
        small_study.frame()


def test_a_loaded_network_takes_images_as_they_are(small_study: Study) -> None:
    member = small_study.front.pick("most-accurate")
    network = small_study.load("most-accurate")
    split = small_study.dataset.search
    with torch.no_grad():
        answers = network(split.images).argmax(dim=1)
        again = network(split.images.float() / 255).argmax(dim=1)
    right = (answers == split.targets).float().mean().item()
    assert right == pytest.approx(member.metrics["accuracy"], abs=1e-6)
    assert right == pytest.approx(
        accuracy(small_study.network(member.key), small_study.dataset).top1, abs=1e-6
    )
    assert torch.equal(again, answers)
    assert not network.training


def test_a_pick_that_is_not_there_is_refused(small_study: Study) -> None:
    with pytest.raises(StudyError, match="no members have the key 'zzz'"):
        small_study.load("zzz")
