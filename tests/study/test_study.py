"""A whole study on the digits: what it leaves, and under which changes it goes on."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.small_study import small_space

import dynnas
from dynnas.errors import StudyError
from dynnas.metrics.accuracy import accuracy, answers
from dynnas.nn.networks.cost import cost
from dynnas.pareto.front import Front
from dynnas.pareto.noise import GAIN, GAIN_HIGH, GAIN_LOW
from dynnas.progress import Progress
from dynnas.search.evaluators.supernet import SupernetEvaluator
from dynnas.study.controls import UNSELECTED
from dynnas.study.study import Study
from dynnas.tasks.intervals import wilson
from dynnas.workflows.run import run_study


@pytest.fixture
def folder(small_study: Study, tmp_path: Path) -> Path:
    """A copy of the finished study to play with."""
    return Path(shutil.copytree(small_study.folder.path, tmp_path / "studies" / "small"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def test_front_has_what_the_issue_asks_for(small_study: Study) -> None:
    assert len(small_study.candidates) == 10
    document = json.loads(small_study.folder.front.read_text())
    assert [member["key"] for member in document["members"]] == [member.key for member in small_study.front]
    for member in document["members"]:
        candidate = small_study.candidates[member["trial"]]
        assert candidate.key == member["key"]
        assert set(member["accuracy"]) == {
            *("search", "search_low", "search_high"),
            *("test", "test_low", "test_high"),
        }
        assert {"ranked", "mean", "median", "p95", "worst"} == set(member["latency_ms"])
        size = cost(small_study.space.network_config(candidate.architecture, channels=1, classes=10))
        assert (member["macs"], member["params"]) == (size.macs, size.params)
    assert [member.key for member in small_study.front] == [
        member.key for member in Front.of(small_study.candidates, small_study.goal.objectives)
    ]


def test_test_split_is_for_finished_fronts_and_a_few_random_networks(small_study: Study) -> None:
    assert all("test_accuracy" in member.metrics for member in small_study.front)
    assert not any("test_accuracy" in member.metrics for member in small_study.candidates)
    for name, group in small_study.controls.groups.items():
        front = {member.key for member in Front.of(group, small_study.goal.objectives)}
        if name == "random":
            front |= {member.key for member in group[:UNSELECTED]}
        assert {member.key for member in group if "test_accuracy" in member.metrics} == front


def test_members_say_what_they_gain_on_the_test_split_over_the_cheaper_one(small_study: Study) -> None:
    targets = small_study.dataset.test.targets
    rights = [
        answers(
            small_study.network(member.key), small_study.dataset, small_study.dataset.test
        ).outputs.argmax(1)
        == targets
        for member in small_study.front
    ]
    for member, right, before in zip(small_study.front[1:], rights[1:], rights, strict=False):
        gained = (right.double() - before.double()).mean().item()
        assert member.metrics[GAIN] == pytest.approx(gained, abs=1e-6)
        assert member.metrics[GAIN_LOW] <= gained <= member.metrics[GAIN_HIGH]
    assert GAIN not in small_study.front[0].metrics
    for member in small_study.front:
        low, high = wilson(member.metrics["test_accuracy"], len(targets))
        assert (member.metrics["test_accuracy_low"], member.metrics["test_accuracy_high"]) == (low, high)


def test_network_of_a_key_is_the_one_that_was_scored(small_study: Study) -> None:
    member = small_study.front.pick("most-accurate")
    network = small_study.network(member.key)
    assert not network.training
    found = accuracy(network, small_study.dataset, "search")
    assert found.top1 == pytest.approx(member.metrics["accuracy"])
    test = accuracy(network, small_study.dataset, "test")
    assert test.top1 == pytest.approx(member.metrics["test_accuracy"])
    with pytest.raises(StudyError, match="no architectures have the key 'zz'"):
        small_study.network("zz")


def test_exits_have_shares_and_expected_macs(small_study: Study) -> None:
    groups = small_study.controls.groups
    everyone = [*small_study.candidates, *groups["random"]]
    leaving = [member for member in everyone if member.architecture["exits.at"] == "stage1"]
    assert leaving
    for member in leaving:
        shares = [member.metrics["exit_share.stage1"], member.metrics["exit_share.head"]]
        assert sum(shares) == pytest.approx(1.0)
        assert member.metrics["expected_macs"] <= member.metrics["macs"]
    assert not any("expected_macs" in member.metrics for member in everyone if member not in leaving)


def test_controls(small_study: Study) -> None:
    groups = small_study.controls.groups
    assert len(groups["random"]) == 5  # half as many as trials
    static = {member.key for member in groups["static"]}
    known = {
        member.key
        for member in small_study.candidates
        if not small_study.space.network_config(member.architecture).dynamic
    }
    assert len(static) == 10
    assert known <= static  # what the search has evaluated counts
    for member in (*groups["static"], *groups["uniform"]):
        assert not small_study.space.network_config(member.architecture).dynamic
    widths = {tuple(v for k, v in m.architecture.items() if k.endswith("width")) for m in groups["uniform"]}
    assert widths == {(4, 8, 8, 8), (8, 16, 8, 16)}
    comparison = small_study.comparison
    assert set(comparison.hypervolume) == {"search", "random", "static", "uniform"}
    stored = json.loads(small_study.folder.controls.read_text())
    assert stored["reference"] == comparison.reference
    assert stored["hypervolume"] == comparison.hypervolume
    assert stored["test"] == comparison.test
    assert set(comparison.test) == {"search", "random", "static", "uniform"}


def test_finished_study_is_left_alone(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(folder)
    monkeypatch.setattr(SupernetEvaluator, "stages", None)  # nothing may be evaluated
    run_study(small_space(tmp_path), folder=folder)
    assert contents(folder) == before


def test_more_trials_and_other_limits_continue(small_study: Study, folder: Path, tmp_path: Path) -> None:
    longer = run_study(small_space(tmp_path, search={"trials": 13, "controls": False}), folder=folder)
    assert longer.candidates[:10] == small_study.candidates
    assert len(longer.candidates) == 13
    limit = sorted(member.metrics["params"] for member in longer.candidates)[5]
    limited = {"trials": 13, "controls": False, "constraints": {"params": limit}}
    tighter = run_study(small_space(tmp_path, search=limited), folder=folder)
    assert {member.key for member in tighter.candidates} == {
        member.key for member in longer.candidates if member.metrics["params"] <= limit
    }
    assert all(member.metrics["params"] <= limit for member in tighter.front)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"train": {"epochs": 5}}, "train.epochs is 5, was 4"),
        ({"data": {"train_images": 500}}, "data.train_images is 500, was 512"),
        ({"target": {"threads": 2}}, "target.threads is 2, was 1"),
        ({"search": {"objectives": ("accuracy", "macs")}}, r"search.objectives is \('accuracy', 'macs'\)"),
    ],
)
def test_what_would_not_compare_is_refused(
    changes: dict[str, Any], difference: str, folder: Path, tmp_path: Path
) -> None:
    before = contents(folder)
    with pytest.raises(StudyError, match=rf"(?s){difference}.*another --name, or .* --fresh"):
        run_study(small_space(tmp_path, **changes), folder=folder)
    assert contents(folder) == before


def test_another_space_is_refused(folder: Path, tmp_path: Path) -> None:
    space = small_space(tmp_path).restrict({"stem.width": (4,)})
    with pytest.raises(StudyError, match=r"space is [0-9a-f]{16}, was [0-9a-f]{16}"):
        run_study(space, folder=folder)


def test_fresh_deletes_the_study_and_nothing_else(small_study: Study, folder: Path, tmp_path: Path) -> None:
    (folder / "notes.md").write_text("mine")
    names = {path.name for path in small_study.folder.owned()}
    assert {"space.yaml", "settings.json", "study.db", "cache.db", "supernet", "front.json"} <= names
    changed = {"train": {"epochs": 1}, "search": {"trials": 3, "controls": False}}
    study = run_study(small_space(tmp_path, **changed), folder=folder, fresh=True)
    assert len(study.candidates) == 3
    assert study.controls.groups == {}
    assert (folder / "notes.md").read_text() == "mine"


def test_open_by_name_or_path(small_study: Study, tmp_path: Path) -> None:
    studies = small_study.folder.path.parent
    by_name, by_path = (
        dynnas.open_study("small", studies),
        dynnas.open_study(small_study.folder.path, tmp_path),
    )
    assert by_name.front == by_path.front == small_study.front
    assert by_name.finished
    assert by_name.space == small_study.space
    assert by_name.space.settings == small_study.settings
    with pytest.raises(StudyError, match=r"no study 'smal'; .* has small"):
        dynnas.open_study("smal", studies)


def test_unfinished_study_shows_the_front_so_far(folder: Path) -> None:
    (folder / "front.json").unlink()
    study = dynnas.open_study(folder)
    assert not study.finished
    assert [m.key for m in study.front] == [m.key for m in Front.of(study.candidates, study.goal.objectives)]


def test_plain_space_has_no_study(tmp_path: Path) -> None:
    path = tmp_path / "plain.yaml"
    path.write_text("choices: {a: [1, 2]}")
    with pytest.raises(StudyError, match="'plain': a study needs a space file with a network"):
        run_study(dynnas.load_space(path), folder=tmp_path / "study")


def test_trials_may_lie_elsewhere(folder: Path, tmp_path: Path) -> None:
    shutil.rmtree(folder)
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    space = small_space(tmp_path, search={"trials": 2, "controls": False}, train={"epochs": 1})
    study = run_study(space, folder=folder, storage=url)
    assert study.storage == url
    assert len(study.candidates) == 2
    assert not (folder / "study.db").exists()
    with pytest.raises(StudyError, match="storage is None, was sqlite:///"):
        run_study(space, folder=folder)
    again = run_study(space, folder=folder, storage=url, fresh=True)
    assert [member.trial for member in again.candidates] == [0, 1]


def test_size_is_known_before_anything_is_timed(small_study: Study) -> None:
    evaluator = SupernetEvaluator(small_study.extractor, None)
    assert set(next(evaluator.stages(small_study.front[0].architecture))) == {"macs", "params"}


class Recorder(Progress):
    """Keeps the names of all tasks."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def task(self, name: str, total: int, done: int = 0):
        self.names.append(name)
        return super().task(name, total, done)


def test_progress_names_the_steps(folder: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    (folder / "front.json").unlink()
    run_study(small_space(tmp_path), folder=folder, progress=recorder)
    assert recorder.names == [
        "search",
        "random control",
        "static-only control",
        "uniform-width control",
        "finishing the front",
        "testing the controls",
    ]


def test_a_damaged_front_is_written_again_by_a_search(folder: Path) -> None:
    before = Front.load(folder / "front.json")
    (folder / "front.json").write_text((folder / "front.json").read_text()[:100])
    with pytest.raises(StudyError, match=r"front\.json: damaged, or not by dynnas .*search again"):
        Front.load(folder / "front.json")
    study = run_study(small_space(folder.parent), folder=folder)
    assert [member.key for member in study.front] == [member.key for member in before]


def test_a_damaged_scale_is_one_message_with_its_mend(folder: Path) -> None:
    (folder / "anchors.json").write_text('{"anchor_ms": ')
    message = r"anchors\.json: damaged, or not by dynnas .*: dynnas measure STUDY --all"
    with pytest.raises(StudyError, match=message):
        run_study(small_space(folder.parent), folder=folder)
    with pytest.raises(StudyError, match=message):
        _ = dynnas.open_study(folder).latencies
