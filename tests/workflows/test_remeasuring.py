"""`dynnas measure`: new latencies, old accuracies, and nothing lost when it is interrupted."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from support.small_study import small_space

from dynnas.errors import StudyError
from dynnas.latency.latency import AnchorReference
from dynnas.study.controls import Comparison, Controls
from dynnas.study.study import Study, open_study
from dynnas.workflows import remeasure as remeasuring
from dynnas.workflows.remeasure import measure_all, measure_front
from dynnas.workflows.run import run_study


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("remeasuring")
    limits = {"params": 4000.0}
    space = small_space(folder, search={"trials": 6, "constraints": limits, "controls": False})
    study = run_study(space, folder=folder / "small")
    controls = Controls(random=tuple(replace(each, trial=None) for each in study.candidates[:2]))
    comparison = Comparison.of(study.candidates, controls, study.goal.objectives)
    study.folder.controls.write_text(controls.to_json(comparison))
    return study.folder.path


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Study:
    return open_study(shutil.copytree(made, tmp_path / "small"))


def latencies(study: Study) -> list[float]:
    return [candidate.metrics["latency_ms"] for candidate in study.candidates]


def accuracies(study: Study) -> dict[str, float]:
    return {candidate.key: candidate.metrics["accuracy"] for candidate in study.candidates}


def elsewhere(study: Study) -> Study:
    """The study as if it came from another machine."""
    reference = AnchorReference.load(study.folder.anchors, study.settings.target)
    replace(reference, environment="elsewhere").save(study.folder.anchors)
    return open_study(study.folder.path)


@pytest.mark.slow
def test_a_front_is_timed_again_on_the_same_scale(study: Study) -> None:
    before = study.front
    after = measure_front(study).front
    assert [member.key for member in after] == [member.key for member in before]
    for old, new in zip(before, after, strict=True):
        assert new.metrics["latency_ms"] == old.metrics["latency_ms"]
        assert new.metrics["mean_ms"] != old.metrics["mean_ms"]
        assert new.metrics["test_accuracy"] == old.metrics["test_accuracy"]


def test_another_machine_is_refused_until_all_is_measured_there(study: Study) -> None:
    moved = elsewhere(study)
    with pytest.raises(StudyError, match=r"elsewhere.*dynnas measure STUDY --all"):
        measure_front(moved)
    known, controls = accuracies(moved), moved.controls
    new = measure_all(moved)
    assert accuracies(new) == known
    assert set(latencies(new)).isdisjoint(latencies(moved))
    assert new.record.name == "small-measured-2"
    assert [trial.state for trial in _trials(new)] == [trial.state for trial in _trials(moved)]
    measured = {candidate.key: candidate.metrics for candidate in new.candidates}
    for old_control, control in zip(controls.random, new.controls.random, strict=True):
        assert control.key == old_control.key
        assert control.metrics == measured[control.key]
    assert not new.folder.remeasuring.exists()
    measure_front(new)  # nothing refuses any more
    assert measure_all(new).record.name == "small-measured-3"


@pytest.mark.slow
def test_trials_keep_their_limits(study: Study) -> None:
    old, new = _trials(study), _trials(measure_all(study))
    assert any(trial.constraints.get("params", 0) > 0 for trial in old)
    assert [trial.constraints for trial in new] == [trial.constraints for trial in old]
    assert [trial.params for trial in new] == [trial.params for trial in old]


@pytest.mark.slow
def test_interrupted_it_goes_on(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = elsewhere(study)
    measured = []
    inner = remeasuring._Remeasuring._measured

    def interrupted(self, architecture, metrics):
        if len(measured) == 3:
            raise KeyboardInterrupt
        measured.append(architecture.key)
        return inner(self, architecture, metrics)

    monkeypatch.setattr(remeasuring._Remeasuring, "_measured", interrupted)
    with pytest.raises(KeyboardInterrupt):
        measure_all(moved)
    half = open_study(study.folder.path)
    assert latencies(half) == latencies(study)
    name = json.loads(half.folder.remeasuring.read_text())["name"]
    begun = _trials(half, name)
    monkeypatch.setattr(remeasuring._Remeasuring, "_measured", inner)
    new = measure_all(half)
    assert new.record.name == name
    assert [trial.values for trial in _trials(new)[: len(begun)]] == [trial.values for trial in begun]
    assert accuracies(new) == accuracies(study)


def _trials(study: Study, name: str | None = None):
    return remeasuring.load_trials(study.storage, name or study.record.name).trials
